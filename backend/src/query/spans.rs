//! Spans: what is told of an attempt to have a model answer.
//!
//! For: one span an attempt, by OpenTelemetry's semantic conventions for generative models. May touch: the request's trace.
//! Promises: model, bounds, tokens and what went wrong are told; neither question nor answer is. Read next: `failover.rs`.

use common::traces::SpanKind;

use super::Usage;
use super::models::ModelHandle;
use super::providers::{Mode, Prompt, ProviderError};
use crate::base::trace::{Current, Open};

/// One attempt, from the question to the last piece of the answer. Nothing where the request is not told of.
pub(super) struct Attempt(Option<Open>);

impl Attempt {
    pub(super) fn begin(trace: Option<&Current>, model: &ModelHandle, prompt: &Prompt<'_>, mode: Mode) -> Self {
        let mut open = trace.and_then(|trace| trace.open(SpanKind::Client, format!("chat {}", model.id())));
        if let Some(span) = open.as_mut().and_then(Open::span) {
            span.set("gen_ai.operation.name", "chat");
            span.set("gen_ai.provider.name", model.provider().kind());
            span.set("gen_ai.request.model", model.id().to_owned());
            span.set_count("gen_ai.request.max_tokens", prompt.tokens_max.into());
            span.set_some("gen_ai.request.temperature", prompt.temperature);
            span.set("gen_ai.request.stream", mode == Mode::Streamed);
        }
        Self(open)
    }

    /// What the model has counted.
    pub(super) fn used(&mut self, usage: &Usage) {
        if let Some(span) = self.0.as_mut().and_then(Open::span) {
            span.set_count("gen_ai.usage.input_tokens", usage.prompt_tokens);
            span.set_count("gen_ai.usage.output_tokens", usage.completion_tokens);
        }
    }

    /// It gave no answer, or broke it off.
    pub(super) fn failed(&mut self, error: &ProviderError) {
        if let Some(span) = self.0.as_mut().and_then(Open::span) {
            match error {
                ProviderError::Status { status, .. } => span.fail(status.to_string()),
                other => span.fail(other.word()),
            }
        }
        self.ended();
    }

    /// The last piece is there.
    pub(super) fn ended(&mut self) {
        self.0 = None;
    }
}
