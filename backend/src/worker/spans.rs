//! Spans: what is told of an attempt on a query of a batch.
//!
//! For: `runner.rs`; one span an attempt, in the trace of the request that has handed the batch in. May touch: that trace.
//! Promises: of a batch whose request is not told of nothing is told; ids, the attempt and how it ended are, neither query
//! nor answer is. Read next: `base/trace.rs`.

use common::traces::Tracer;

use crate::base::trace::{self, Current, Open};
use crate::storage::TakenItem;

/// One attempt. Nothing where it is not told of.
pub(super) struct Attempt(Option<Open>);

/// How one ended, as its span says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was answered.
    Done,
    /// It was not.
    Failed,
    /// The program is to end.
    GivenBack,
    /// Another worker has the item.
    Lost,
}

impl Attempt {
    pub(super) fn begin(tracer: Option<&Tracer>, item: &TakenItem) -> Self {
        let left = tracer.zip(item.traceparent.as_deref());
        let current = left.and_then(|(tracer, left)| Current::resume(tracer, left));
        let mut open = current.and_then(|current| current.work("job.attempt"));
        if let Some(span) = open.as_mut().and_then(Open::span) {
            span.set("capibara6.job.id", item.job_id.clone());
            span.set("capibara6.job.item", item.id.clone());
            span.set("capibara6.job.attempt", item.attempt);
        }
        Self(open)
    }

    /// Does its work: spans of that stand below it.
    pub(super) async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        trace::around(self.0.as_ref().map(Open::below), work).await
    }

    /// It has ended.
    pub(super) fn ended(mut self, ending: Ending) {
        let Some(span) = self.0.as_mut().and_then(Open::span) else { return };
        let word = ending.word();
        span.set("capibara6.job.outcome", word);
        if matches!(ending, Ending::Failed | Ending::Lost) {
            span.fail(word);
        }
    }
}

impl Ending {
    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
        }
    }
}
