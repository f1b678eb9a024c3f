//! Trace: the request that a task works for, and its spans.
//!
//! For: spans of what is done for a request, wherever and whenever it is done. May touch: the tracer's queue, a value of the
//! task's own. Promises: of a request that is not told of nothing is kept and no span is made; a span that was begun is
//! told, also where its work was broken off. A task that is spawned knows nothing of the request unless it is handed on.
//! Read next: `api/middleware.rs`, where a request's trace begins.

use std::borrow::Cow;
use std::time::SystemTime;

use common::traces::{Parent, Span, SpanId, SpanKind, Trace, Tracer};
use futures::future::Either;
use futures::stream::{self, Stream, StreamExt as _};

tokio::task_local! {
    /// The request that this task works for.
    static CURRENT: Current;
}

/// A request's trace, and the span that further ones stand below.
#[derive(Clone)]
pub struct Current {
    tracer: Tracer,
    trace: Trace,
    above: SpanId,
}

/// A span that has begun; it ends when it is dropped.
pub struct Open {
    below: Current,
    span: Option<Span>,
}

impl Current {
    /// The trace of a request that has this parent, or none.
    #[must_use]
    pub fn begin(tracer: &Tracer, parent: Option<Parent>) -> Self {
        let trace = tracer.begin(parent);
        Self { tracer: tracer.clone(), above: trace.span(), trace }
    }

    /// The trace of a request that has left work to be done later; `None` where the request was not told of. `left` is what
    /// `traceparent` said when it left it.
    #[must_use]
    pub fn resume(tracer: &Tracer, left: &str) -> Option<Self> {
        let parent = Parent::read([left.as_bytes()], [])?;
        Some(Self::begin(tracer, Some(parent))).filter(|current| current.trace.is_sampled())
    }

    /// `traceparent` for work that is left to be done later.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.trace.traceparent(self.above)
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The request's own span, to be told when it is over; `None` where it is not told of.
    #[must_use]
    pub fn request(&self, name: impl Into<Cow<'static, str>>, began: SystemTime) -> Option<Open> {
        let span = self.trace.is_sampled().then(|| self.tracer.request(&self.trace, name, began))?;
        Some(Open { below: self.clone(), span: Some(span) })
    }

    /// Begins the span of work that the request has left; `None` where it is not told of.
    #[must_use]
    pub fn work(&self, name: impl Into<Cow<'static, str>>) -> Option<Open> {
        let span = self.trace.is_sampled().then(|| self.tracer.work(&self.trace, name, SystemTime::now()))?;
        Some(Open { below: self.clone(), span: Some(span) })
    }

    /// Begins a span; `None` where the request is not told of.
    #[must_use]
    pub fn open(&self, kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Option<Open> {
        if !self.trace.is_sampled() {
            return None;
        }
        let span = self.tracer.child(&self.trace, self.above, kind, name, SystemTime::now());
        Some(Open { below: Self { above: span.id(), ..self.clone() }, span: Some(span) })
    }
}

/// The request that this task works for, if it is told of.
#[must_use]
pub fn current() -> Option<Current> {
    CURRENT.try_with(Current::clone).ok().filter(|current| current.trace.is_sampled())
}

/// Does work for the request, if it is told of.
pub fn around<T>(current: Option<Current>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    match current {
        Some(current) => Either::Left(CURRENT.scope(current, work)),
        None => Either::Right(work),
    }
}

/// Does a piece of work in a span of its own. `name` is a word of the program, such as `users.list`.
pub async fn within<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let open = current().and_then(|current| current.open(SpanKind::Internal, name));
    around(open.as_ref().map(Open::below), work).await
}

/// Reads a stream whose pieces are made for the request, if it is told of.
pub fn along<S: Stream + Unpin>(current: Option<Current>, mut pieces: S) -> impl Stream<Item = S::Item> {
    stream::poll_fn(move |context| match &current {
        Some(current) => CURRENT.sync_scope(current.clone(), || pieces.poll_next_unpin(context)),
        None => pieces.poll_next_unpin(context),
    })
}

impl Open {
    /// For spans that stand below this one.
    #[must_use]
    pub fn below(&self) -> Current {
        self.below.clone()
    }

    /// What is said of it; nothing any more once it was told.
    pub fn span(&mut self) -> Option<&mut Span> {
        self.span.as_mut()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            self.below.tracer.tell(span);
        }
    }
}
