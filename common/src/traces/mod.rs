//! Traces: what a request met on its way, told to a collector by OTLP.
//!
//! For: both programs, which tell spans of the same trace: whether a request is told of (`trace.rs`), what is told
//! (`span.rs`), where to (`settings.rs`), and the telling (`export.rs`). The types and the wire format are those of
//! OpenTelemetry's crates. May touch: the collector, from a thread of its own, which has the only async runtime of this
//! crate. Promises: a request never waits for the collector; what finds the queue full or the collector away is counted
//! and dropped; a client's word about a trace counts only where its sender is trusted.
//! Read next: `trace.rs`.

mod export;
mod settings;
mod span;
mod trace;

pub use export::{Delivery, OnLost, Service, StartError, start};
pub use opentelemetry::trace::{SpanId, SpanKind, TraceId};
pub use settings::{CollectorUrl, Settings, Traces};
pub use span::{Span, Tracer, method_name};
pub use trace::{Parent, Sampling, Trace, new_span};

/// The field that names a request's trace and the span above it (W3C Trace Context §3.2).
pub const TRACEPARENT: &str = "traceparent";

/// The field in which tracing systems leave notes of their own (W3C Trace Context §3.3).
pub const TRACESTATE: &str = "tracestate";
