//! Answers: questions to models, whole or bit by bit, and the cache of what they said.
//!
//! For: `processQuery`, `answer`, `cacheStats` and `clearCache`. Doc comments on types are the schema's descriptions.
//! May touch: `query::Queries`. Promises: the same work as REST asks for, under the same words; what an answer does not
//! have is null.
//! Read next: `mutation.rs` and `subscription.rs`, which give these away.

use async_graphql::{ID, InputObject, SimpleObject};
use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::api::Services;
use crate::api::error::ApiError;
use crate::auth::Caller;
use crate::base::time::milliseconds;
use crate::query::{Ace, Answer, Done, Executed, FinishReason, Question, Routed, StreamEvent, Usage};

/// What a question to a model costs: a document over the default bound asks ten of them.
pub(super) const ASK_COST: usize = 100;

/// What is asked.
#[derive(Clone, Debug, InputObject)]
pub(super) struct ProcessQueryInput {
    /// The text, of 32768 characters at most.
    query: String,
    /// Which model shall answer; chosen by how hard the query looks, if left out.
    model: Option<String>,
    /// The most tokens of the answer; the model's own most, if left out.
    max_tokens: Option<u32>,
    /// How freely the model may choose its words, from 0 to 2; its own default, if left out.
    temperature: Option<f64>,
    /// Whether everybody who asks the same may have this answer, where the configuration allows that.
    #[graphql(default)]
    public: bool,
    /// Whether code in the answer shall be run, where there is a sandbox.
    #[graphql(default)]
    execute: bool,
}

/// What a model said.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct QueryResult {
    text: String,
    /// The id of the model that said it.
    model: String,
    /// Why it stopped: stop, length or `content_filter`.
    finish_reason: String,
    /// Tokens of the query, as the model counts them.
    prompt_tokens: u64,
    /// Tokens of the answer, as the model counts them.
    completion_tokens: u64,
}

/// How the model was chosen.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct RoutingResult {
    /// The id of the model that answers.
    model: String,
    /// How hard the query looks, from 0 to 100.
    complexity: u32,
    /// One sentence, for people.
    reason: String,
}

/// The playbook that was put before the query.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(name = "ACEResult")]
pub(super) struct AceResult {
    /// Its id.
    playbook: String,
    /// What its keywords scored.
    score: u32,
    /// How many characters it added.
    added_chars: usize,
}

/// What came of running the answer's code.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(name = "E2BResult")]
pub(super) struct SandboxResult {
    /// Whether it ran, to whatever end.
    executed: bool,
    stdout: String,
    stderr: String,
    /// How it ended; 0 is well.
    exit_code: Option<i64>,
    /// Why it did not run, or was ended.
    error: Option<String>,
    took_ms: f64,
}

/// What came of a query.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct ProcessingResult {
    /// This answer's own id.
    id: ID,
    result: QueryResult,
    routing: RoutingResult,
    /// Null, when no playbook fits.
    ace: Option<AceResult>,
    /// Null, when there is no sandbox or nobody asked for it.
    #[graphql(name = "e2b")]
    e2b: Option<SandboxResult>,
    /// Whether the text was kept from an earlier time.
    cached: bool,
    duration_ms: f64,
}

/// One part of an answer. Exactly one of its fields is not null.
#[derive(Clone, Debug, Default, SimpleObject)]
pub(super) struct AnswerPart {
    /// Which model answers, and why. Comes first, once.
    routing: Option<RoutingResult>,
    /// The next words.
    delta: Option<String>,
    /// Everything else. Comes last, once.
    done: Option<AnswerEnd>,
}

/// What is known when an answer is complete.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct AnswerEnd {
    /// The answer's own id.
    id: ID,
    /// Why the model stopped: stop, length or `content_filter`.
    finish_reason: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    ace: Option<AceResult>,
    #[graphql(name = "e2b")]
    e2b: Option<SandboxResult>,
    cached: bool,
    duration_ms: f64,
}

/// How the cache of answers fares in the process that answers, since its start.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub(super) struct CacheStats {
    /// Answers kept now.
    entries: u64,
    /// Queries answered from it.
    hits: u64,
    /// Those among them whose answer another process had kept.
    shared_hits: u64,
    /// Queries that it had no answer to.
    misses: u64,
    /// Hits among all, from 0 to 1.
    hit_rate: f64,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub(super) struct ClearedCache {
    /// How many answers.
    entries: u64,
}

/// Answers a query as a whole.
pub(super) async fn ask(
    services: &Services,
    caller: &Caller,
    input: ProcessQueryInput,
) -> Result<ProcessingResult, ApiError> {
    Ok(services.queries.ask(&caller.subject, &question(input)).await?.into())
}

/// Answers a query bit by bit. Dropping the stream ends the model's work on it.
pub(super) async fn stream(
    services: &Services,
    caller: &Caller,
    input: ProcessQueryInput,
) -> Result<BoxStream<'static, Result<AnswerPart, ApiError>>, ApiError> {
    let events = services.queries.stream(&caller.subject, &question(input)).await?;
    Ok(events.map(|event| event.map(AnswerPart::from).map_err(ApiError::from)).boxed())
}

/// How the cache fares.
pub(super) async fn cache_stats(services: &Services) -> CacheStats {
    let stats = services.queries.cache_stats().await;
    CacheStats {
        entries: stats.entries,
        hits: stats.hits,
        shared_hits: stats.shared_hits,
        misses: stats.misses,
        hit_rate: stats.hit_rate(),
    }
}

/// Forgets all answers.
pub(super) async fn clear_cache(services: &Services) -> ClearedCache {
    ClearedCache { entries: services.queries.clear_cache().await }
}

fn question(input: ProcessQueryInput) -> Question {
    Question {
        text: input.query,
        model: input.model,
        tokens_max: input.max_tokens,
        temperature: input.temperature,
        public: input.public,
        execute: input.execute,
        ..Question::default()
    }
}

impl From<Answer> for ProcessingResult {
    fn from(answer: Answer) -> Self {
        Self {
            id: ID(answer.id),
            result: QueryResult {
                text: answer.text,
                model: answer.routed.model.clone(),
                finish_reason: finish_reason(answer.finish),
                prompt_tokens: answer.usage.prompt_tokens,
                completion_tokens: answer.usage.completion_tokens,
            },
            routing: answer.routed.into(),
            ace: answer.ace.map(AceResult::from),
            e2b: answer.e2b.map(SandboxResult::from),
            cached: answer.cached,
            duration_ms: milliseconds(answer.took),
        }
    }
}

impl From<StreamEvent> for AnswerPart {
    fn from(event: StreamEvent) -> Self {
        match event {
            StreamEvent::Routed(routed) => Self { routing: Some(routed.into()), ..Self::default() },
            StreamEvent::Text(text) => Self { delta: Some(text), ..Self::default() },
            StreamEvent::Done(done) => Self { done: Some(done.into()), ..Self::default() },
        }
    }
}

impl From<Done> for AnswerEnd {
    fn from(done: Done) -> Self {
        let Usage { prompt_tokens, completion_tokens } = done.usage;
        Self {
            id: ID(done.id),
            finish_reason: finish_reason(done.finish),
            prompt_tokens,
            completion_tokens,
            ace: done.ace.map(AceResult::from),
            e2b: done.e2b.map(SandboxResult::from),
            cached: done.cached,
            duration_ms: milliseconds(done.took),
        }
    }
}

impl From<Routed> for RoutingResult {
    fn from(routed: Routed) -> Self {
        Self { model: routed.model, complexity: routed.complexity.into(), reason: routed.reason }
    }
}

impl From<Ace> for AceResult {
    fn from(ace: Ace) -> Self {
        Self { playbook: ace.playbook, score: ace.score, added_chars: ace.added_chars }
    }
}

impl From<Executed> for SandboxResult {
    fn from(ran: Executed) -> Self {
        Self {
            executed: ran.executed,
            stdout: ran.stdout,
            stderr: ran.stderr,
            exit_code: ran.exit_code,
            error: ran.error,
            took_ms: milliseconds(ran.took),
        }
    }
}

fn finish_reason(finish: FinishReason) -> String {
    finish.as_str().to_owned()
}
