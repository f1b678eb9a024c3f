//! Providers: where answers come from.
//!
//! For: one face over model servers and the embedded model. May touch: the network, in `openai.rs` only.
//! Promises: every wait and every answer is bounded; an error says which step failed and never holds a key.
//! Read next: `openai.rs`, then `embedded.rs`.

mod embedded;
mod openai;

pub(super) use embedded::TOKENS_MAX as EMBEDDED_TOKENS_MAX;
pub(super) use openai::OpenAi;

pub use embedded::MODEL_ID as EMBEDDED_MODEL_ID;

use super::cache::Kept;

/// What a model is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prompt<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// The most tokens of the answer.
    pub(super) tokens_max: u32,
    /// From 0 to 2; the model's own default, if `None`.
    pub(super) temperature: Option<f64>,
}

/// A place where answers come from.
pub(super) enum Provider {
    /// A server of the OpenAI-compatible HTTP API.
    OpenAi(OpenAi),
    /// This process, for development and tests.
    Embedded,
}

/// The client of a model server cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("the client of model {model:?} cannot be built")]
pub struct BuildError {
    pub(super) model: String,
    #[source]
    pub(super) source: reqwest::Error,
}

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// No connection, also not at the second attempt.
    #[error("no connection to the model's server")]
    Connect(#[source] reqwest::Error),
    /// No answer in time.
    #[error("no answer of the model's server in time")]
    Timeout,
    /// The connection broke before the answer was complete.
    #[error("the connection to the model's server broke")]
    Broken(#[source] reqwest::Error),
    /// The server answered with another status than 200.
    #[error("the model's server answered {status}")]
    Status {
        /// Which.
        status: u16,
    },
    /// The answer is larger than allowed.
    #[error("the answer of the model's server is larger than {bytes_max} bytes")]
    TooLarge {
        /// How large it may be.
        bytes_max: usize,
    },
    /// The answer is not what the API promises.
    #[error("the answer of the model's server is not a chat completion")]
    Malformed(#[source] serde_json::Error),
    /// The answer holds no text.
    #[error("the answer of the model's server holds no text")]
    Empty,
}

impl Provider {
    pub(super) async fn ask(&self, prompt: &Prompt<'_>) -> Result<Kept, ProviderError> {
        match self {
            Self::OpenAi(server) => server.ask(prompt).await,
            Self::Embedded => Ok(embedded::ask(prompt)),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::OpenAi(_) => "openai",
            Self::Embedded => "embedded",
        }
    }
}
