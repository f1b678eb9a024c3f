//! Query: a question goes in, an answer comes out, and it says how it came about.
//!
//! For: choosing a model, asking it, keeping its answer for a while. May touch: `config`, `base`, model servers.
//! It knows nothing of HTTP's server side nor of users beyond the word that tells them apart.
//! Promises: an answer names the model that gave it and why that one was chosen; a kept answer is given only to the one
//! who asked, for the same text and parameters; questions, answers and waits are bounded.
//! Read next: `Queries::ask` below, the whole work in one function; then `complexity.rs` and `router.rs`.

mod cache;
mod complexity;
mod error;
mod models;
mod providers;
mod router;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::clock::Clock;

use crate::base::ids;
use crate::base::metrics::{AnswerSource, Metrics};
use crate::config;

use cache::AnswerCache;
use models::ModelHandle;
use providers::Prompt;

pub use error::QueryError;
pub use models::{ModelInfo, ModelStatus};
pub use providers::{BuildError, EMBEDDED_MODEL_ID, ProviderError};
pub use router::Routed;

/// The longest question, in characters.
pub const QUESTION_CHARS_MAX: usize = 32_768;
/// The highest temperature that the OpenAI-compatible API knows.
const TEMPERATURE_MAX: f64 = 2.0;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The text.
    pub text: String,
    /// Which model shall answer; the router chooses, if `None`.
    pub model: Option<String>,
    /// The most tokens of the answer; the model's own most, if `None`.
    pub tokens_max: Option<u32>,
    /// How freely the model may choose its words, from 0 to 2; the model's own default, if `None`.
    pub temperature: Option<f64>,
}

/// How many tokens a question and its answer took, as the model counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of the question.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// This answer's own id.
    pub id: String,
    /// The text.
    pub text: String,
    /// How the model was chosen.
    pub routed: Routed,
    /// Whether the text was kept from an earlier time.
    pub cached: bool,
    /// As the model counted when it answered.
    pub usage: Usage,
    /// From the question to the answer.
    pub took: Duration,
}

/// Everything that answers questions.
pub struct Queries {
    models: Vec<ModelHandle>,
    routing: config::Routing,
    cache: AnswerCache,
    metrics: Metrics,
}

impl Queries {
    /// Without any model server the embedded model answers; the configuration allows that in development only.
    ///
    /// # Errors
    /// When the client of a model server cannot be built.
    pub fn new(
        models: &[config::Model],
        routing: config::Routing,
        cache: config::Cache,
        metrics: Metrics,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        Ok(Self { models: models::build(models, clock)?, routing, cache: AnswerCache::new(cache), metrics })
    }

    /// Answers a question of `subject`.
    ///
    /// # Errors
    /// `QueryError::Input` for a question that cannot be asked, `QueryError::Model` when the model fails.
    pub async fn ask(&self, subject: &str, question: &Question) -> Result<Answer, QueryError> {
        let started = Instant::now();
        check(question)?;
        let (model, routed) = router::choose(&self.models, self.routing, question)?;
        let prompt = Prompt {
            text: &question.text,
            tokens_max: model.tokens_max(question.tokens_max)?,
            temperature: question.temperature,
        };
        let asked = AtomicBool::new(false);
        let kept = self
            .cache
            .get_or_ask(cache::key(subject, model.id(), &prompt), async {
                asked.store(true, Ordering::Relaxed);
                model.ask(&prompt).await
            })
            .await;
        let cached = !asked.load(Ordering::Relaxed);
        let source = match (&kept, cached) {
            (Err(_), _) => AnswerSource::Failed,
            (Ok(_), true) => AnswerSource::Cache,
            (Ok(_), false) => AnswerSource::Model,
        };
        self.metrics.query(model.id(), source);
        let kept = kept.map_err(|cause| QueryError::Model { model: model.id().to_owned(), cause })?;
        Ok(Answer {
            id: ids::new_id(),
            text: kept.text.clone(),
            routed,
            cached,
            usage: kept.usage,
            took: started.elapsed(),
        })
    }

    /// The models, in the order of the configuration.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInfo> {
        self.models.iter().map(ModelHandle::info).collect()
    }
}

fn check(question: &Question) -> Result<(), QueryError> {
    let wrong = |field, why: String| Err(QueryError::Input { field, why });
    // Four bytes a character at most: what is far too long is refused without being counted.
    let fits = question.text.len() <= 4 * QUESTION_CHARS_MAX && question.text.chars().count() <= QUESTION_CHARS_MAX;
    if question.text.trim().is_empty() || !fits {
        return wrong("query", format!("must have 1 to {QUESTION_CHARS_MAX} characters"));
    }
    if question.temperature.is_some_and(|temperature| !(0.0..=TEMPERATURE_MAX).contains(&temperature)) {
        return wrong("temperature", format!("must be 0 to {TEMPERATURE_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
