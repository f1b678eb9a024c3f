//! Span: one thing that took its time, as it is told.
//!
//! For: the programs' own spans, named and attributed by OpenTelemetry's semantic conventions. May touch: the queue of
//! `export.rs`. Promises: nothing here waits; values come from whoever makes the span, who leaves queries, bodies and
//! credentials out. Read next: `export.rs`.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::export::OnLost;
use super::trace::{Parent, Sampling, Trace, new_span};

/// Methods that have a name in the semantic conventions; what else a client makes up is `_OTHER`.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// Decides which requests are told of, and takes their spans. Cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    pub(super) inner: Arc<Inner>,
}

/// What the clones share.
pub(super) struct Inner {
    pub(super) queue: SyncSender<SpanData>,
    pub(super) sampling: Sampling,
    pub(super) scope: InstrumentationScope,
    pub(super) on_lost: OnLost,
}

/// A span in the making.
#[derive(Debug)]
pub struct Span(SpanData);

impl Tracer {
    /// The trace of a request that has this parent, or none.
    #[must_use]
    pub fn begin(&self, parent: Option<Parent>) -> Trace {
        Trace::begin(parent, self.inner.sampling)
    }

    /// The span of the request itself.
    #[must_use]
    pub fn request(&self, trace: &Trace, name: impl Into<Cow<'static, str>>, began: SystemTime) -> Span {
        self.first(trace, SpanKind::Server, name, began)
    }

    /// The span of work that a request has left to be done later.
    #[must_use]
    pub fn work(&self, trace: &Trace, name: impl Into<Cow<'static, str>>, began: SystemTime) -> Span {
        self.first(trace, SpanKind::Consumer, name, began)
    }

    /// The first span that this program tells of a trace, below the one that it was told of.
    fn first(&self, trace: &Trace, kind: SpanKind, name: impl Into<Cow<'static, str>>, began: SystemTime) -> Span {
        let mut span = self.child(trace, trace.parent.unwrap_or(SpanId::INVALID), kind, name, began);
        span.0.span_context = context(trace, trace.span);
        span.0.parent_span_is_remote = trace.parent.is_some();
        span
    }

    /// A new span below `parent`, which is another of this trace.
    #[must_use]
    pub fn child(
        &self,
        trace: &Trace,
        parent: SpanId,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        began: SystemTime,
    ) -> Span {
        Span(SpanData {
            span_context: context(trace, new_span()),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: kind,
            name: name.into(),
            start_time: began,
            end_time: began,
            attributes: Vec::with_capacity(12),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.inner.scope.clone(),
        })
    }

    /// Hands a span over that ends now.
    pub fn tell(&self, span: Span) {
        self.tell_ended(span, SystemTime::now());
    }

    /// Hands a span over that ended then. It is counted as lost where the queue is full.
    pub fn tell_ended(&self, Span(mut span): Span, ended: SystemTime) {
        span.end_time = ended.max(span.start_time);
        if self.inner.queue.try_send(span).is_err() {
            (self.inner.on_lost)(1);
        }
    }
}

impl Span {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> SpanId {
        self.0.span_context.span_id()
    }

    /// Gives it the number that others were told.
    #[must_use]
    pub fn with_id(mut self, trace: &Trace, id: SpanId) -> Self {
        self.0.span_context = context(trace, id);
        self
    }

    /// Says something of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.attributes.push(KeyValue::new(name, value));
    }

    /// Says something of it, where there is something to say.
    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Says a number that counts something.
    pub fn set_count(&mut self, name: &'static str, count: u64) {
        self.set(name, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// It has failed; `kind` is a word or a status of a closed list.
    pub fn fail(&mut self, kind: impl Into<Value>) {
        self.set("error.type", kind);
        self.0.status = Status::error("");
    }
}

fn context(trace: &Trace, span: SpanId) -> SpanContext {
    // It was sound when it was read.
    let state = trace.state.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    SpanContext::new(trace.id, span, trace.flags(), false, state)
}

/// A method by the name that the semantic conventions have for it.
#[must_use]
pub fn method_name(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or("_OTHER")
}
