//! Query errors: the question was at fault, or the models, or there is no room.
//!
//! For: `api/error.rs`, which makes HTTP of them. May touch: `providers/`.
//! Promises: what a model's server said stays in the cause, for the log. Read next: `providers/error.rs`.

use std::sync::Arc;

use super::playbooks::PlaybookErrors;
use super::providers::ProviderError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A field of the question does not hold what it must.
    #[error("{field} {why}")]
    Input {
        /// Which.
        field: &'static str,
        /// What it must hold.
        why: String,
    },
    /// The model failed, and so did those that could be asked instead. Whoever asked the same at the same time shares
    /// this.
    #[error("model {model} failed")]
    Model {
        /// The id of the last one that was asked.
        model: String,
        /// How.
        #[source]
        cause: Arc<ProviderError>,
    },
    /// As many answers are being streamed as may be.
    #[error("{open_max} answers are being streamed already")]
    Overloaded {
        /// How many may be.
        open_max: usize,
    },
}

impl QueryError {
    /// Whether asking the same again would be in vain: the question is at fault, in our eyes or in the model's.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Input { .. } => true,
            Self::Model { cause, .. } => cause.is_refusal(),
            Self::Overloaded { .. } => false,
        }
    }
}

/// Why the models cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The client of a model server.
    #[error("the client of model {model:?} cannot be built")]
    Client {
        /// The model's id.
        model: String,
        /// What the client said.
        #[source]
        source: reqwest::Error,
    },
    /// The client of the sandbox.
    #[error("the client of the sandbox cannot be built")]
    Sandbox(#[source] reqwest::Error),
    /// The playbooks.
    #[error("the playbooks cannot be used")]
    Playbooks(#[from] PlaybookErrors),
}
