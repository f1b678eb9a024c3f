//! Query: a question goes in, an answer comes out, and it says how it came about.
//!
//! For: choosing a model, asking it, keeping its answer for a while. May touch: `config`, `base`, `shared`, model
//! servers, the sandbox, the folder of playbooks. It knows nothing of HTTP's server side nor of users beyond the word that
//! tells them apart. Promises: an answer names the model that gave it and why it was that one; a kept answer is given only to the one
//! who asked, for the same text and parameters, unless it was asked for as public; questions, answers, streams and waits
//! are bounded.
//! Read next: `Queries::ask` below, the whole work in one function; then `router.rs`, `failover.rs` and `stream.rs`.

mod answer;
mod cache;
mod circuit;
mod complexity;
mod error;
mod failover;
mod models;
mod playbooks;
mod providers;
mod question;
mod reach;
mod remote;
mod router;
mod sandbox;
mod spans;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::clock::Clock;
use tokio::sync::Semaphore;

use crate::base::ids;
use crate::base::metrics::{AnswerSource, Metrics};
use crate::base::redis_metrics::CacheLayer;
use crate::base::trace::{self, Current};
use crate::config::{self, Config};
use crate::shared::{Shared, Values};

use cache::{AnswerCache, Audience, Kept, Key};
use failover::{Chain, Failure, Wish};
use models::ModelHandle;
use playbooks::Playbooks;
use providers::{Mode, Piece, Prompt};
use remote::Remote;
use sandbox::Sandbox;
use stream::Live;

pub use answer::{Ace, Answer, CacheStats, Executed, FinishReason, Usage};
pub use error::{BuildError, QueryError};
pub use models::{ModelInfo, ModelStatus};
pub use playbooks::{PLAYBOOK_BYTES_MAX, PLAYBOOKS_MAX, PlaybookErrors};
pub use providers::{EMBEDDED_MODEL_ID, ProviderError};
pub use question::{HISTORY_CHARS_MAX, HISTORY_MESSAGES_MAX, Message, QUESTION_CHARS_MAX, Question, Role};
pub use reach::probes;
pub use router::Routed;
pub use stream::{AnswerStream, Done, StreamEvent};

/// What of the configuration questions are answered by.
#[derive(Clone, Copy)]
pub struct Settings<'c> {
    /// The model servers; without any the embedded model answers.
    pub models: &'c [config::Model],
    /// Which model answers.
    pub routing: config::Routing,
    /// Answers that are kept.
    pub cache: config::Cache,
    /// Answers that are told piece by piece.
    pub streams: config::Streams,
    /// Texts that are put before questions.
    pub playbooks: &'c config::Playbooks,
    /// A service that runs code.
    pub sandbox: Option<&'c config::Sandbox>,
}

/// Everything that answers questions. Cheap to clone: the clones share it.
#[derive(Clone)]
pub struct Queries {
    inner: Arc<Inner>,
}

struct Inner {
    models: Vec<Arc<ModelHandle>>,
    routing: config::Routing,
    cache: AnswerCache,
    is_public_allowed: bool,
    playbooks: Playbooks,
    sandbox: Option<Sandbox>,
    streams: Arc<Semaphore>,
    stream_settings: config::Streams,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// A question that can be asked, and everything that was decided about it.
struct Plan {
    id: String,
    asked_at: u64,
    started: Instant,
    chain: Chain,
    routed: Routed,
    messages: Vec<Message>,
    tokens_max: Option<u32>,
    temperature: Option<f64>,
    ace: Option<Ace>,
    execute: bool,
    key: Key,
    /// The request that it is asked for, where it is told of: streams are read by another task.
    trace: Option<Current>,
}

impl<'c> From<&'c Config> for Settings<'c> {
    fn from(config: &'c Config) -> Self {
        Self {
            models: &config.models,
            routing: config.routing,
            cache: config.cache,
            streams: config.streams,
            playbooks: &config.playbooks,
            sandbox: config.sandbox.as_ref(),
        }
    }
}

impl Queries {
    /// Without any model server the embedded model answers; the configuration allows that in development only.
    /// Playbooks are read here, and not again. With `shared`, answers are kept there as well.
    ///
    /// # Errors
    /// When the client of a model server or of the sandbox cannot be built, or a playbook is wrong.
    pub fn new(
        settings: Settings<'_>,
        metrics: Metrics,
        clock: &Arc<dyn Clock>,
        shared: Option<Shared>,
    ) -> Result<Self, BuildError> {
        let models = models::build(settings.models, clock, &metrics)?;
        let ids = models.iter().map(|model| model.id().to_owned()).collect();
        let remote = shared.map(|shared| Remote::new(Values::answers(shared), ids));
        let inner = Inner {
            models,
            routing: settings.routing,
            cache: AnswerCache::new(settings.cache, remote, metrics.redis().clone()),
            is_public_allowed: settings.cache.public,
            playbooks: Playbooks::load(settings.playbooks)?,
            sandbox: settings.sandbox.map(Sandbox::new).transpose()?,
            streams: Arc::new(Semaphore::new(settings.streams.open_max)),
            stream_settings: settings.streams,
            metrics,
            clock: Arc::clone(clock),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Refuses a question that cannot be asked, without asking it.
    ///
    /// # Errors
    /// `QueryError::Input` with the field.
    pub fn check(&self, question: &Question) -> Result<(), QueryError> {
        self.inner.plan("", question).map(drop)
    }

    /// Answers a question of `subject`.
    ///
    /// # Errors
    /// `QueryError::Input` for a question that cannot be asked, `QueryError::Model` when the model fails, and those that
    /// are asked instead do so too.
    pub async fn ask(&self, subject: &str, question: &Question) -> Result<Answer, QueryError> {
        let inner = &*self.inner;
        let plan = inner.plan(subject, question)?;
        let (layer, outcome) = inner.cache.get_or_ask(plan.key, inner.ask_models(&plan)).await;
        let cached = layer != CacheLayer::Miss;
        inner.count(&plan, outcome.as_deref().ok(), layer);
        let kept = outcome.map_err(|failure| QueryError::from(Failure::clone(&failure)))?;
        let e2b = inner.execute(&plan, &kept.text).await;
        Ok(Answer {
            routed: plan.routed_to(&kept.model, kept.detour.as_deref()),
            id: plan.id,
            asked_at: plan.asked_at,
            text: kept.text.clone(),
            cached,
            usage: kept.usage,
            finish: kept.finish,
            ace: plan.ace,
            e2b,
            took: plan.started.elapsed(),
        })
    }

    /// Answers a question of `subject` piece by piece. Models are asked when the stream is read; a kept answer is told at
    /// once.
    ///
    /// # Errors
    /// `QueryError::Input` for a question that cannot be asked, `QueryError::Overloaded` when as many streams are open as
    /// may be. What goes wrong with the models is told by the stream.
    pub async fn stream(&self, subject: &str, question: &Question) -> Result<AnswerStream, QueryError> {
        let plan = self.inner.plan(subject, question)?;
        let place = Arc::clone(&self.inner.streams)
            .try_acquire_owned()
            .map_err(|_| QueryError::Overloaded { open_max: self.inner.stream_settings.open_max })?;
        let (layer, kept) = self.inner.cache.get(&plan.key).await.unzip();
        self.inner.cache.count(layer.unwrap_or(CacheLayer::Miss));
        if let Some(kept) = &kept {
            self.inner.metrics.query(&kept.model, AnswerSource::Cache);
        }
        Ok(Live::new(Arc::clone(&self.inner), plan, kept, place).into_stream())
    }

    /// How often a stream that has nothing to tell should show that it lives.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.inner.stream_settings.heartbeat
    }

    /// The models, in the order of the configuration.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInfo> {
        self.inner.models.iter().map(|model| model.info()).collect()
    }

    /// Drops all kept answers, and says how many there were.
    pub async fn clear_cache(&self) -> u64 {
        self.inner.cache.clear().await
    }

    /// How the answer cache fares.
    pub async fn cache_stats(&self) -> CacheStats {
        self.inner.cache.stats().await
    }
}

impl Inner {
    /// Decides everything about a question that does not need a model.
    fn plan(&self, subject: &str, question: &Question) -> Result<Plan, QueryError> {
        question.check()?;
        let (model, routed) = router::choose(&self.models, self.routing, question)?;
        let tokens_max = model.tokens_max(question.tokens_max)?;
        let is_complex = routed.complexity >= self.routing.large_from;
        let (playbook, ace) = self.playbooks.fit(&question.text, is_complex).unzip();
        let asked = Message { role: Role::User, text: question.text.clone() };
        let messages: Vec<Message> =
            playbook.into_iter().chain(question.history.iter().cloned()).chain([asked]).collect();
        let audience =
            if question.public && self.is_public_allowed { Audience::Public } else { Audience::Subject(subject) };
        let prompt = Prompt { messages: &messages, tokens_max, temperature: question.temperature };
        Ok(Plan {
            id: ids::new_id(),
            asked_at: self.clock.unix_seconds(),
            started: Instant::now(),
            key: cache::key(audience, model.id(), &prompt),
            chain: models::chain(&self.models, model),
            routed,
            messages,
            tokens_max: question.tokens_max,
            temperature: question.temperature,
            ace,
            execute: question.execute,
            trace: trace::current(),
        })
    }

    /// The whole answer of whichever model gives one.
    async fn ask_models(&self, plan: &Plan) -> Result<Kept, Failure> {
        let mut begun = failover::begin(&plan.chain, plan.wish(Mode::Whole), &self.metrics).await?;
        let mut kept = Kept {
            text: String::new(),
            usage: Usage::default(),
            finish: FinishReason::default(),
            model: begun.model().to_owned(),
            detour: begun.detour().map(str::to_owned),
        };
        while let Some(piece) = begun.next().await {
            match piece? {
                Piece::Text(text) => kept.text.push_str(&text),
                Piece::Usage(usage) => kept.usage = usage,
                Piece::Finish(finish) => kept.finish = finish,
            }
        }
        Ok(kept)
    }

    /// Counts one question that was not streamed.
    fn count(&self, plan: &Plan, kept: Option<&Kept>, layer: CacheLayer) {
        let cached = layer != CacheLayer::Miss;
        let (model, source) = match (kept, cached) {
            (None, _) => (plan.chosen(), AnswerSource::Failed),
            (Some(kept), true) => (kept.model.as_str(), AnswerSource::Cache),
            (Some(kept), false) => (kept.model.as_str(), AnswerSource::Model),
        };
        self.metrics.query(model, source);
        // Who waited in vain for somebody else's question neither found nor missed anything.
        if kept.is_some() || !cached {
            self.cache.count(layer);
        }
    }

    /// Runs the answer's code, where the client asks for it and there is a sandbox.
    async fn execute(&self, plan: &Plan, answer: &str) -> Option<Executed> {
        let sandbox = self.sandbox.as_ref().filter(|_| plan.execute)?;
        Some(sandbox.run(answer).await)
    }
}

impl Plan {
    /// The id of the model that was chosen.
    fn chosen(&self) -> &str {
        &self.routed.model
    }

    fn wish(&self, mode: Mode) -> Wish<'_> {
        let trace = self.trace.as_ref();
        Wish { messages: &self.messages, tokens_max: self.tokens_max, temperature: self.temperature, mode, trace }
    }

    /// How it came about that this model answers.
    fn routed_to(&self, model: &str, detour: Option<&str>) -> Routed {
        let reason = match detour {
            Some(detour) => format!("{}; {detour}", self.routed.reason),
            None => self.routed.reason.clone(),
        };
        Routed { model: model.to_owned(), complexity: self.routed.complexity, reason }
    }
}

#[cfg(test)]
mod tests;
