//! Stream: an answer, piece by piece, as it comes to be.
//!
//! For: clients that read along. May touch: models, the cache, the sandbox.
//! Promises: first how the model was chosen, then the text, then what it took; after an error nothing more. Whoever drops
//! the stream ends the model's work on it and gives its place back. A full answer is kept; a broken one is not.
//! Read next: `failover.rs`.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::cache::Kept;
use super::failover::{self, Begun};
use super::providers::{Mode, Piece};
use super::{Ace, Executed, FinishReason, Inner, Plan, QueryError, Routed, Usage};
use crate::base::metrics::AnswerSource;
use crate::base::raised::Raised;

/// One thing that a stream tells.
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// Which model answers, and why. Comes first, once.
    Routed(Routed),
    /// The next words.
    Text(String),
    /// Everything else. Comes last, once.
    Done(Done),
}

/// What is known when an answer is complete.
#[derive(Clone, Debug)]
pub struct Done {
    /// The answer's own id.
    pub id: String,
    /// As the model counted.
    pub usage: Usage,
    /// Whether the text was kept from an earlier time.
    pub cached: bool,
    /// Why the model stopped.
    pub finish: FinishReason,
    /// The playbook that was added; none, if `None`.
    pub ace: Option<Ace>,
    /// What its code did; `None` where no sandbox is configured or nobody asked for it.
    pub e2b: Option<Executed>,
    /// From the question to the end of the answer.
    pub took: Duration,
}

/// An answer that comes to be.
pub struct AnswerStream {
    /// The answer's own id.
    pub id: String,
    /// When it was asked for, in seconds of the Unix epoch.
    pub asked_at: u64,
    /// Whether the text was kept from an earlier time.
    pub cached: bool,
    events: BoxStream<'static, Result<StreamEvent, QueryError>>,
}

impl Stream for AnswerStream {
    type Item = Result<StreamEvent, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(context)
    }
}

/// How far a stream has come.
enum Stage {
    /// The models are to be asked.
    Ask,
    /// A model answers.
    Read(Box<Begun>),
    /// A kept answer is to be told.
    Recall(Arc<Kept>),
    /// Its text is.
    Repeat(Arc<Kept>),
    /// All text is told.
    Close(Arc<Kept>),
    /// Everything is.
    Over,
}

/// A stream, and what it holds while it is open.
pub(super) struct Live {
    inner: Arc<Inner>,
    plan: Plan,
    stage: Stage,
    cached: bool,
    text: String,
    usage: Usage,
    finish: FinishReason,
    _place: OwnedSemaphorePermit,
    _open: Raised,
}

impl Live {
    /// `kept` is the answer that is known already, if it is.
    pub(super) fn new(inner: Arc<Inner>, plan: Plan, kept: Option<Arc<Kept>>, place: OwnedSemaphorePermit) -> Self {
        let open = inner.metrics.models().stream();
        let cached = kept.is_some();
        Self {
            inner,
            plan,
            stage: kept.map_or(Stage::Ask, Stage::Recall),
            cached,
            text: String::new(),
            usage: Usage::default(),
            finish: FinishReason::default(),
            _place: place,
            _open: open,
        }
    }

    pub(super) fn into_stream(self) -> AnswerStream {
        AnswerStream {
            id: self.plan.id.clone(),
            asked_at: self.plan.asked_at,
            cached: self.cached,
            events: stream::try_unfold(self, Self::next).boxed(),
        }
    }

    async fn next(mut self) -> Result<Option<(StreamEvent, Self)>, QueryError> {
        loop {
            let event = match mem::replace(&mut self.stage, Stage::Over) {
                Stage::Ask => Some(self.ask().await?),
                Stage::Read(begun) => self.read(begun).await?,
                Stage::Recall(kept) => {
                    let routed = self.plan.routed_to(&kept.model, kept.detour.as_deref());
                    self.stage = Stage::Repeat(kept);
                    Some(StreamEvent::Routed(routed))
                }
                Stage::Repeat(kept) => {
                    let text = kept.text.clone();
                    self.stage = Stage::Close(kept);
                    Some(StreamEvent::Text(text))
                }
                Stage::Close(kept) => Some(self.close(&kept).await),
                Stage::Over => return Ok(None),
            };
            if let Some(event) = event {
                return Ok(Some((event, self)));
            }
        }
    }

    async fn ask(&mut self) -> Result<StreamEvent, QueryError> {
        match failover::begin(&self.plan.chain, self.plan.wish(Mode::Streamed), &self.inner.metrics).await {
            Ok(begun) => {
                let routed = self.plan.routed_to(begun.model(), begun.detour());
                self.stage = Stage::Read(Box::new(begun));
                Ok(StreamEvent::Routed(routed))
            }
            Err(failure) => Err(self.fail(failure)),
        }
    }

    /// The next words, or nothing when they were the last.
    async fn read(&mut self, mut begun: Box<Begun>) -> Result<Option<StreamEvent>, QueryError> {
        loop {
            match begun.next().await {
                Some(Ok(Piece::Text(text))) => {
                    self.text.push_str(&text);
                    self.stage = Stage::Read(begun);
                    return Ok(Some(StreamEvent::Text(text)));
                }
                Some(Ok(Piece::Usage(usage))) => self.usage = usage,
                Some(Ok(Piece::Finish(finish))) => self.finish = finish,
                Some(Err(failure)) => return Err(self.fail(failure)),
                None => break,
            }
        }
        self.inner.metrics.query(begun.model(), AnswerSource::Model);
        let kept = Arc::new(Kept {
            text: mem::take(&mut self.text),
            usage: self.usage,
            finish: self.finish,
            model: begun.model().to_owned(),
            detour: begun.detour().map(str::to_owned),
        });
        self.inner.cache.keep(self.plan.key, Arc::clone(&kept)).await;
        self.stage = Stage::Close(kept);
        Ok(None)
    }

    async fn close(&mut self, kept: &Kept) -> StreamEvent {
        let e2b = self.inner.execute(&self.plan, &kept.text).await;
        StreamEvent::Done(Done {
            id: self.plan.id.clone(),
            usage: kept.usage,
            cached: self.cached,
            finish: kept.finish,
            ace: self.plan.ace.clone(),
            e2b,
            took: self.plan.started.elapsed(),
        })
    }

    fn fail(&self, failure: failover::Failure) -> QueryError {
        self.inner.metrics.query(self.plan.chosen(), AnswerSource::Failed);
        failure.into()
    }
}
