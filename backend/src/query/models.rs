//! Models: the ones of the configuration, and how they have fared.
//!
//! For: asking one, listing them, telling their health. May touch: `providers/`, the clock.
//! Promises: a model's state is what its last answer showed; nobody is asked only to find out.
//! Read next: `providers/mod.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::clock::Clock;

use super::QueryError;
use super::cache::Kept;
use super::providers::{BuildError, EMBEDDED_MODEL_ID, EMBEDDED_TOKENS_MAX, OpenAi, Prompt, Provider, ProviderError};
use crate::config::{self, ModelSize};

/// What a model's last answer showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelStatus {
    /// Nobody asked it yet.
    Unused,
    /// It answered the last question.
    Answering,
    /// It failed the last question.
    Failing,
}

/// A model, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its id.
    pub id: String,
    /// What it is meant for.
    pub size: ModelSize,
    /// Where it runs: `embedded` or `openai`.
    pub provider: &'static str,
    /// The most tokens of an answer.
    pub tokens_max: u32,
    /// What its last answer showed.
    pub status: ModelStatus,
    /// When it last answered, in seconds of the Unix epoch.
    pub answered_at: Option<u64>,
}

/// A model that can be asked.
pub(super) struct ModelHandle {
    id: String,
    size: ModelSize,
    tokens_max: u32,
    provider: Provider,
    clock: Arc<dyn Clock>,
    /// Seconds of the Unix epoch; 0 is never.
    answered_at: AtomicU64,
    /// Seconds of the Unix epoch; 0 is never.
    failed_at: AtomicU64,
}

impl ModelStatus {
    /// The word used in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Answering => "answering",
            Self::Failing => "failing",
        }
    }
}

/// All models of the configuration, or the embedded one.
pub(super) fn build(models: &[config::Model], clock: &Arc<dyn Clock>) -> Result<Vec<ModelHandle>, BuildError> {
    if models.is_empty() {
        return Ok(vec![ModelHandle::new(
            EMBEDDED_MODEL_ID.to_owned(),
            ModelSize::Small,
            EMBEDDED_TOKENS_MAX,
            Provider::Embedded,
            Arc::clone(clock),
        )]);
    }
    models
        .iter()
        .map(|model| {
            let provider = Provider::OpenAi(OpenAi::new(model)?);
            Ok(ModelHandle::new(model.id.clone(), model.size, model.tokens_max, provider, Arc::clone(clock)))
        })
        .collect()
}

impl ModelHandle {
    fn new(id: String, size: ModelSize, tokens_max: u32, provider: Provider, clock: Arc<dyn Clock>) -> Self {
        Self { id, size, tokens_max, provider, clock, answered_at: AtomicU64::new(0), failed_at: AtomicU64::new(0) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn size(&self) -> ModelSize {
        self.size
    }

    /// The number of tokens to ask for.
    ///
    /// # Errors
    /// `QueryError::Input` when the client wants none, or more than this model gives.
    pub(super) fn tokens_max(&self, wanted: Option<u32>) -> Result<u32, QueryError> {
        match wanted {
            None => Ok(self.tokens_max),
            Some(wanted) if (1..=self.tokens_max).contains(&wanted) => Ok(wanted),
            Some(_) => {
                let why = format!("must be 1 to {} for model {}", self.tokens_max, self.id);
                Err(QueryError::Input { field: "max_tokens", why })
            }
        }
    }

    /// Asks the model, and remembers how it fared.
    pub(super) async fn ask(&self, prompt: &Prompt<'_>) -> Result<Kept, ProviderError> {
        let answer = self.provider.ask(prompt).await;
        let moment = if answer.is_ok() { &self.answered_at } else { &self.failed_at };
        moment.store(self.clock.unix_seconds(), Ordering::Relaxed);
        if answer.is_ok() {
            self.failed_at.store(0, Ordering::Relaxed);
        }
        answer
    }

    pub(super) fn info(&self) -> ModelInfo {
        let answered_at = self.answered_at.load(Ordering::Relaxed);
        let failed = self.failed_at.load(Ordering::Relaxed) != 0;
        ModelInfo {
            id: self.id.clone(),
            size: self.size,
            provider: self.provider.kind(),
            tokens_max: self.tokens_max,
            status: match (failed, answered_at) {
                (true, _) => ModelStatus::Failing,
                (false, 0) => ModelStatus::Unused,
                (false, _) => ModelStatus::Answering,
            },
            answered_at: (answered_at != 0).then_some(answered_at),
        }
    }
}
