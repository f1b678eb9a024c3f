//! Failover: who answers when the chosen model does not.
//!
//! For: asking a model again, then the next one, until there is the first piece of an answer. May touch: models, the
//! clock, metrics. Promises: before the first piece each model is asked `attempts_max` times at most, and only where that
//! may help; after it nobody else is asked, because the client has seen it; waits are bounded, jittered, and never shorter
//! than the server wishes. Read next: `circuit.rs`, then `providers/error.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::backoff;
use common::telemetry::with_causes;
use futures::StreamExt as _;

use super::circuit::Permit;
use super::models::{ModelHandle, Retrying};
use super::providers::{Mode, Piece, Pieces, Prompt, ProviderError};
use super::spans::Attempt;
use super::{Message, QueryError};
use crate::base::metrics::Metrics;
use crate::base::model_metrics::TokenKind;
use crate::base::trace::Current;

/// The wait before the second attempt; before each later one it is twice as long, up to the model's own bound.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// What the models are asked.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// What was said, the question last.
    pub(super) messages: &'a [Message],
    /// The most tokens of the answer, as the client wants it.
    pub(super) tokens_max: Option<u32>,
    pub(super) temperature: Option<f64>,
    pub(super) mode: Mode,
    /// The request that asks, where it is told of.
    pub(super) trace: Option<&'a Current>,
}

/// The models that may answer a question, in the order in which they are asked.
#[derive(Clone)]
pub(super) struct Chain {
    /// The chosen one.
    pub(super) first: Arc<ModelHandle>,
    /// Those that are asked instead.
    pub(super) others: Vec<Arc<ModelHandle>>,
}

/// Why no model answered.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The id of the last one that was asked.
    model: String,
    cause: Arc<ProviderError>,
}

/// An answer whose first piece is there.
pub(super) struct Begun {
    model: Arc<ModelHandle>,
    detour: Option<String>,
    first: Option<Piece>,
    rest: Pieces,
    permit: Permit,
    attempt: Attempt,
    asked_at: Instant,
    metrics: Metrics,
}

impl From<Failure> for QueryError {
    fn from(failure: Failure) -> Self {
        Self::Model { model: failure.model, cause: failure.cause }
    }
}

impl Failure {
    fn of(model: &ModelHandle, error: ProviderError) -> Self {
        Self { model: model.id().to_owned(), cause: Arc::new(error) }
    }

    fn in_short(&self) -> String {
        format!("{} {}", self.model, self.cause.in_short())
    }
}

/// Asks the first model of the chain, and where it gives no answer the others.
pub(super) async fn begin(chain: &Chain, wish: Wish<'_>, metrics: &Metrics) -> Result<Begun, Failure> {
    let mut failure = match ask(&chain.first, wish, metrics).await {
        Ok(begun) => return Ok(begun),
        Err(error) => Failure::of(&chain.first, error),
    };
    let mut passed_over = vec![failure.in_short()];
    for model in &chain.others {
        if failure.cause.is_refusal() {
            break;
        }
        match ask(model, wish, metrics).await {
            Ok(mut begun) => {
                metrics.models().fallback(chain.first.id());
                begun.detour = Some(format!("{}: {} answers instead", passed_over.join(", "), model.id()));
                return Ok(begun);
            }
            Err(error) => {
                let next = Failure::of(model, error);
                passed_over.push(next.in_short());
                // What a server that was asked has done says more than that another was not asked.
                if !matches!(*next.cause, ProviderError::LeftAlone { .. }) {
                    failure = next;
                }
            }
        }
    }
    Err(failure)
}

/// Asks one model, again where that may help.
async fn ask(model: &Arc<ModelHandle>, wish: Wish<'_>, metrics: &Metrics) -> Result<Begun, ProviderError> {
    let mut attempt = 1;
    let mut before: Option<ProviderError> = None;
    loop {
        let error = match ask_once(model, wish, metrics).await {
            Ok(begun) => return Ok(begun),
            // The attempt before has opened the circuit; it is the one that says why.
            Err(error @ ProviderError::LeftAlone { .. }) => return Err(before.unwrap_or(error)),
            Err(error) => error,
        };
        tracing::warn!(model = model.id(), attempt, error = with_causes(&error), "a model gave no answer");
        let Some(wait) = wait_after(attempt, &error, model.retrying()) else { return Err(error) };
        tokio::time::sleep(wait).await;
        before = Some(error);
        attempt += 1;
    }
}

/// How long to wait before the next attempt; `None` where there shall be none.
fn wait_after(attempt: u32, error: &ProviderError, retrying: Retrying) -> Option<Duration> {
    if attempt >= retrying.attempts_max || !error.is_passing() {
        return None;
    }
    if let Some(wish) = error.retry_after() {
        return (wish <= retrying.wait_max).then_some(wish);
    }
    Some(backoff::spread(backoff::wait_after(attempt, BACKOFF_FIRST, retrying.wait_max)))
}

async fn ask_once(model: &Arc<ModelHandle>, wish: Wish<'_>, metrics: &Metrics) -> Result<Begun, ProviderError> {
    let mut permit =
        model.circuit().enter().map_err(|alone| ProviderError::LeftAlone { retry_after: alone.retry_after })?;
    let asked_at = Instant::now();
    let prompt = Prompt {
        messages: wish.messages,
        tokens_max: model.tokens_within(wish.tokens_max),
        temperature: wish.temperature,
    };
    let mut attempt = Attempt::begin(wish.trace, model, &prompt, wish.mode);
    match first_piece(model, &prompt, wish.mode).await {
        Ok((first, rest)) => {
            permit.answering();
            if wish.mode == Mode::Streamed {
                metrics.models().first_token(model.id(), asked_at.elapsed());
            }
            Ok(Begun {
                model: Arc::clone(model),
                detour: None,
                first: Some(first),
                rest,
                permit,
                attempt,
                asked_at,
                metrics: metrics.clone(),
            })
        }
        Err(error) => {
            attempt.failed(&error);
            settle(model, &mut permit, &error);
            Err(error)
        }
    }
}

async fn first_piece(model: &ModelHandle, prompt: &Prompt<'_>, mode: Mode) -> Result<(Piece, Pieces), ProviderError> {
    let mut pieces = model.provider().begin(prompt, mode).await?;
    let first = pieces.next().await.ok_or(ProviderError::Empty)??;
    Ok((first, pieces))
}

/// Remembers a failure where it belongs.
fn settle(model: &ModelHandle, permit: &mut Permit, error: &ProviderError) {
    if error.is_refusal() {
        permit.succeed();
        return;
    }
    model.note_failure();
    if error.is_fault() {
        permit.fail();
    }
}

impl Begun {
    /// The model that answers.
    pub(super) fn model(&self) -> &str {
        self.model.id()
    }

    /// Why it is this one and not the chosen one, if it is another.
    pub(super) fn detour(&self) -> Option<&str> {
        self.detour.as_deref()
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        let piece = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => self.rest.next().await,
        };
        match piece {
            Some(Ok(piece)) => {
                if let Piece::Usage(usage) = &piece {
                    self.attempt.used(usage);
                    let models = self.metrics.models();
                    models.tokens(self.model.id(), TokenKind::Prompt, usage.prompt_tokens);
                    models.tokens(self.model.id(), TokenKind::Completion, usage.completion_tokens);
                }
                Some(Ok(piece))
            }
            Some(Err(error)) => {
                self.attempt.failed(&error);
                settle(&self.model, &mut self.permit, &error);
                tracing::warn!(model = self.model.id(), error = with_causes(&error), "a model broke off its answer");
                Some(Err(Failure::of(&self.model, error)))
            }
            None => {
                self.attempt.ended();
                self.permit.succeed();
                self.model.note_answer();
                self.metrics.models().answered(self.model.id(), self.asked_at.elapsed());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after_s: Option<u64>) -> ProviderError {
        ProviderError::Status { status, retry_after: retry_after_s.map(Duration::from_secs) }
    }

    #[test]
    fn waits_grow_are_bounded_and_heed_the_server() {
        let retrying = Retrying { attempts_max: 4, wait_max: Duration::from_secs(2) };
        let between = |attempt: u32, least_ms: u64, most_ms: u64| {
            for _ in 0..100 {
                let wait = wait_after(attempt, &status(503, None), retrying).expect("another attempt");
                let bounds = Duration::from_millis(least_ms)..=Duration::from_millis(most_ms);
                assert!(bounds.contains(&wait), "{attempt}: {wait:?}");
            }
        };
        between(1, 50, 100);
        between(2, 100, 200);
        between(3, 200, 400);
        let short = Retrying { attempts_max: 20, wait_max: Duration::from_millis(150) };
        assert!(wait_after(15, &status(500, None), short).is_some_and(|wait| wait <= short.wait_max));
        let cases = [
            ("no attempt is left", 4, status(503, None), None),
            ("it says when", 1, status(429, Some(1)), Some(Duration::from_secs(1))),
            ("it says so late that nobody waits", 1, status(429, Some(3)), None),
            ("it may still be at work", 1, ProviderError::Timeout, None),
            ("the question is refused", 1, status(400, None), None),
        ];
        for (what, attempt, error, wait) in cases {
            assert_eq!(wait_after(attempt, &error, retrying), wait, "{what}");
        }
    }
}
