//! Providers: where answers come from.
//!
//! For: one face over model servers and the embedded model. May touch: the network, in `openai.rs` and `reading.rs`.
//! Promises: every wait and every answer is bounded; an error says which step failed and never holds a key; whoever
//! drops the pieces of an answer ends the work on it. Read next: `openai.rs`, then `embedded.rs`.

mod embedded;
mod error;
mod openai;
mod reading;
mod sse;
mod wire;

use futures::stream::BoxStream;

use super::{FinishReason, Message, Usage};

pub(super) use embedded::TOKENS_MAX as EMBEDDED_TOKENS_MAX;
pub(super) use openai::OpenAi;

pub use embedded::MODEL_ID as EMBEDDED_MODEL_ID;
pub use error::ProviderError;

/// What a model is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompt<'a> {
    /// What was said, the question last.
    pub(super) messages: &'a [Message],
    /// The most tokens of the answer.
    pub(super) tokens_max: u32,
    /// From 0 to 2; the model's own default, if `None`.
    pub(super) temperature: Option<f64>,
}

/// How an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// In one piece.
    Whole,
    /// Piece by piece, as it comes to be.
    Streamed,
}

/// A piece of an answer. Text comes first; usage, where the server tells it, and the reason why it stopped come last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The next words.
    Text(String),
    /// What it took.
    Usage(Usage),
    /// Why it stopped.
    Finish(FinishReason),
}

/// An answer that comes to be. After an error there is nothing more.
pub(super) type Pieces = BoxStream<'static, Result<Piece, ProviderError>>;

/// A place where answers come from.
pub(super) enum Provider {
    /// A server of the OpenAI-compatible HTTP API.
    OpenAi(Box<OpenAi>),
    /// This process, for development and tests.
    Embedded,
}

impl Provider {
    /// Asks once.
    pub(super) async fn begin(&self, prompt: &Prompt<'_>, mode: Mode) -> Result<Pieces, ProviderError> {
        match self {
            Self::OpenAi(server) => server.begin(prompt, mode).await,
            Self::Embedded => Ok(embedded::begin(prompt)),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::OpenAi(_) => "openai",
            Self::Embedded => "embedded",
        }
    }
}
