//! Query errors: the question was at fault, or the model.
//!
//! For: `api/error.rs`, which makes HTTP of them. May touch: `providers/`.
//! Promises: what a model's server said stays in the cause, for the log. Read next: `providers/mod.rs`.

use std::sync::Arc;

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
    /// The model failed. Whoever asked the same at the same time shares this.
    #[error("model {model} failed")]
    Model {
        /// Its id.
        model: String,
        /// How.
        #[source]
        cause: Arc<ProviderError>,
    },
}
