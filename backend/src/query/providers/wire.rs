//! Wire: what is said to and by a server of the OpenAI-compatible HTTP API.
//!
//! For: `openai.rs` and `reading.rs`. May touch: nothing.
//! Promises: servers add members of their own; what is not needed is not read. Read next: `openai.rs`.

use serde::{Deserialize, Serialize};

use super::Prompt;
use crate::query::{Message, Usage};

/// A question.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: Vec<RequestMessage<'a>>,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct RequestMessage<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// A whole answer.
#[derive(Deserialize)]
pub(super) struct Completion {
    pub(super) choices: Vec<Choice>,
    #[serde(default)]
    pub(super) usage: Option<CompletionUsage>,
}

#[derive(Deserialize)]
pub(super) struct Choice {
    pub(super) message: Said,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
}

/// A message, or what is new of it.
#[derive(Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    pub(super) content: Option<String>,
}

/// A piece of a streamed answer.
#[derive(Deserialize)]
pub(super) struct Chunk {
    #[serde(default)]
    pub(super) choices: Vec<ChunkChoice>,
    #[serde(default)]
    pub(super) usage: Option<CompletionUsage>,
    /// What went wrong, in the server's own words, which stay there.
    #[serde(default)]
    pub(super) error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct ChunkChoice {
    #[serde(default)]
    pub(super) delta: Option<Said>,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) struct CompletionUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl<'a> Request<'a> {
    pub(super) fn new(model: &'a str, prompt: &Prompt<'a>, stream: bool) -> Self {
        let message = |message: &'a Message| RequestMessage { role: message.role.as_str(), content: &message.text };
        Self {
            model,
            messages: prompt.messages.iter().map(message).collect(),
            max_tokens: prompt.tokens_max,
            temperature: prompt.temperature,
            stream,
            stream_options: stream.then_some(StreamOptions { include_usage: true }),
        }
    }
}

impl From<CompletionUsage> for Usage {
    fn from(usage: CompletionUsage) -> Self {
        Self { prompt_tokens: usage.prompt_tokens, completion_tokens: usage.completion_tokens }
    }
}
