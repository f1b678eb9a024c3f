//! Models: the ones of the configuration, and how they have fared.
//!
//! For: asking one, listing them, telling their health. May touch: `providers/`, the clock.
//! Promises: a model's state is what its last answer showed; nobody is asked only to find out.
//! Read next: `failover.rs`, which asks them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::clock::Clock;

use super::circuit::Circuit;
use super::failover::Chain;
use super::providers::{EMBEDDED_MODEL_ID, EMBEDDED_TOKENS_MAX, OpenAi, Provider};
use super::{BuildError, QueryError};
use crate::base::metrics::Metrics;
use crate::base::model_metrics::CircuitState;
use crate::config::{self, ModelSize};

/// What the embedded model's circuit would be, if it could fail.
const EMBEDDED_CIRCUIT: config::Circuit =
    config::Circuit { failures_max: u32::MAX, open_for: Duration::from_secs(1) };

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
    /// Whether it is asked at present.
    pub circuit: CircuitState,
    /// The ids of the models that are asked instead.
    pub fallbacks: Vec<String>,
}

/// How often a model is asked, and how long it is waited in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retrying {
    pub(super) attempts_max: u32,
    pub(super) wait_max: Duration,
}

/// A model that can be asked.
pub(super) struct ModelHandle {
    id: String,
    size: ModelSize,
    tokens_max: u32,
    provider: Provider,
    retrying: Retrying,
    fallbacks: Vec<String>,
    circuit: Arc<Circuit>,
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
pub(super) fn build(
    models: &[config::Model],
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Vec<Arc<ModelHandle>>, BuildError> {
    if models.is_empty() {
        return Ok(vec![Arc::new(embedded(clock, metrics))]);
    }
    models.iter().map(|model| served(model, clock, metrics).map(Arc::new)).collect()
}

/// The model, and those that are asked instead, in order. The configuration names only models that are there.
pub(super) fn chain(models: &[Arc<ModelHandle>], first: &Arc<ModelHandle>) -> Chain {
    let named = |id: &String| models.iter().find(|model| model.id == *id);
    Chain { first: Arc::clone(first), others: first.fallbacks.iter().filter_map(named).cloned().collect() }
}

fn embedded(clock: &Arc<dyn Clock>, metrics: &Metrics) -> ModelHandle {
    let id = EMBEDDED_MODEL_ID.to_owned();
    ModelHandle {
        circuit: Arc::new(Circuit::new(id.clone(), EMBEDDED_CIRCUIT, Arc::clone(clock), metrics.clone())),
        id,
        size: ModelSize::Small,
        tokens_max: EMBEDDED_TOKENS_MAX,
        provider: Provider::Embedded,
        retrying: Retrying { attempts_max: 1, wait_max: Duration::ZERO },
        fallbacks: Vec::new(),
        clock: Arc::clone(clock),
        answered_at: AtomicU64::new(0),
        failed_at: AtomicU64::new(0),
    }
}

fn served(model: &config::Model, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Result<ModelHandle, BuildError> {
    Ok(ModelHandle {
        id: model.id.clone(),
        size: model.size,
        tokens_max: model.tokens_max,
        provider: Provider::OpenAi(Box::new(OpenAi::new(model)?)),
        retrying: Retrying { attempts_max: model.attempts_max, wait_max: model.retry_wait_max },
        fallbacks: model.fallbacks.clone(),
        circuit: Arc::new(Circuit::new(model.id.clone(), model.circuit, Arc::clone(clock), metrics.clone())),
        clock: Arc::clone(clock),
        answered_at: AtomicU64::new(0),
        failed_at: AtomicU64::new(0),
    })
}

impl ModelHandle {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn size(&self) -> ModelSize {
        self.size
    }

    pub(super) fn provider(&self) -> &Provider {
        &self.provider
    }

    pub(super) fn retrying(&self) -> Retrying {
        self.retrying
    }

    pub(super) fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
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

    /// The same for a model that was not chosen but stands in: as many as it gives.
    pub(super) fn tokens_within(&self, wanted: Option<u32>) -> u32 {
        wanted.map_or(self.tokens_max, |wanted| wanted.min(self.tokens_max))
    }

    /// It has answered.
    pub(super) fn note_answer(&self) {
        self.answered_at.store(self.clock.unix_seconds(), Ordering::Relaxed);
        self.failed_at.store(0, Ordering::Relaxed);
    }

    /// It has failed.
    pub(super) fn note_failure(&self) {
        self.failed_at.store(self.clock.unix_seconds(), Ordering::Relaxed);
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
            circuit: self.circuit.state(),
            fallbacks: self.fallbacks.clone(),
        }
    }
}
