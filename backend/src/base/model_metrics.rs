//! Model metrics: how fast models answer, what they count, and how many streams are open.
//!
//! For: `query`, which counts; part of `metrics.rs`. May touch: nothing.
//! Promises: the only label that is not a closed list is a model's id, which comes from the configuration.
//! Read next: `metrics.rs`.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::raised::Raised;

/// Upper bounds of both histograms, in seconds: from a model beside us to a long answer of a slow one.
const BUCKETS_SECONDS: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Whether a model server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// It is.
    Closed,
    /// One request probes it; the others are not let through.
    HalfOpen,
    /// It is not, after failures in a row.
    Open,
}

/// What a model read or wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The question.
    Prompt,
    /// The answer.
    Completion,
}

/// Every number about models. Cheap to clone: the handles share their numbers.
#[derive(Clone)]
pub struct ModelMetrics {
    seconds: HistogramVec,
    first_token_seconds: HistogramVec,
    tokens: IntCounterVec,
    circuit: IntGaugeVec,
    fallbacks: IntCounterVec,
    streams: IntGauge,
}

impl CircuitState {
    /// The word used in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The number used in metrics.
    const fn number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

impl TokenKind {
    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Completion => "completion",
        }
    }
}

impl ModelMetrics {
    /// Registers them all.
    ///
    /// # Errors
    /// When two share a name, which is a programming error.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS_SECONDS.to_vec()), &["model"])
        };
        let metrics = Self {
            seconds: histogram("backend_model_seconds", "Time from the question to the end of a model's answer.")?,
            first_token_seconds: histogram(
                "backend_model_first_token_seconds",
                "Time from the question to the first piece of a streamed answer.",
            )?,
            tokens: IntCounterVec::new(
                Opts::new(
                    "backend_model_tokens_total",
                    "Tokens as models count them, by kind: prompt or completion.",
                ),
                &["model", "kind"],
            )?,
            circuit: IntGaugeVec::new(
                Opts::new("backend_model_circuit", "Whether a model is asked: 0 closed, 1 half open, 2 open."),
                &["model"],
            )?,
            fallbacks: IntCounterVec::new(
                Opts::new("backend_model_fallbacks_total", "Answers given by another model in place of this one."),
                &["model"],
            )?,
            streams: IntGauge::new("backend_streams", "Streams of answers that are open.")?,
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.first_token_seconds.clone()))?;
        registry.register(Box::new(metrics.tokens.clone()))?;
        registry.register(Box::new(metrics.circuit.clone()))?;
        registry.register(Box::new(metrics.fallbacks.clone()))?;
        registry.register(Box::new(metrics.streams.clone()))?;
        Ok(metrics)
    }

    /// A model has answered in full.
    pub fn answered(&self, model: &str, took: Duration) {
        self.seconds.with_label_values(&[model]).observe(took.as_secs_f64());
    }

    /// The first piece of a streamed answer has come.
    pub fn first_token(&self, model: &str, took: Duration) {
        self.first_token_seconds.with_label_values(&[model]).observe(took.as_secs_f64());
    }

    /// A model has told how much it read or wrote.
    pub fn tokens(&self, model: &str, kind: TokenKind, count: u64) {
        self.tokens.with_label_values(&[model, kind.as_str()]).inc_by(count);
    }

    /// A model is asked from now on, or is not.
    pub fn circuit(&self, model: &str, state: CircuitState) {
        self.circuit.with_label_values(&[model]).set(state.number());
    }

    /// Another model has answered in place of this one.
    pub fn fallback(&self, model: &str) {
        self.fallbacks.with_label_values(&[model]).inc();
    }

    /// One stream was opened.
    pub fn stream(&self) -> Raised {
        Raised::new(&self.streams)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;

    #[test]
    fn what_is_counted_is_published() {
        let registry = Registry::new();
        let metrics = ModelMetrics::register(&registry).expect("the metrics register");
        metrics.answered("m", Duration::from_secs(2));
        metrics.first_token("m", Duration::from_millis(20));
        metrics.tokens("m", TokenKind::Prompt, 7);
        metrics.tokens("m", TokenKind::Completion, 11);
        metrics.circuit("m", CircuitState::Open);
        metrics.fallback("m");
        let open = metrics.stream();
        let text = || {
            let mut text = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut text).expect("the metrics render");
            String::from_utf8(text).expect("text")
        };
        for line in [
            "backend_model_seconds_count{model=\"m\"} 1",
            "backend_model_first_token_seconds_bucket{model=\"m\",le=\"0.025\"} 1",
            "backend_model_tokens_total{kind=\"prompt\",model=\"m\"} 7",
            "backend_model_tokens_total{kind=\"completion\",model=\"m\"} 11",
            "backend_model_circuit{model=\"m\"} 2",
            "backend_model_fallbacks_total{model=\"m\"} 1",
            "backend_streams 1",
        ] {
            assert!(text().contains(line), "{line} is not in\n{}", text());
        }
        drop(open);
        assert!(text().contains("backend_streams 0"), "{}", text());
    }
}
