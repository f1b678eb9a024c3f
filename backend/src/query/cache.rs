//! Cache: answers that are kept for a while.
//!
//! For: the same caller asking the same again, also at the same time: then the model is asked once. May touch: memory,
//! and Redis through `remote.rs`, where it is configured.
//! Promises: at most `answers_max` answers and `bytes_max` bytes; an answer goes only to the one who asked, because the
//! key holds the subject, unless it was asked for as public; failures are not kept; no answer is kept longer than the
//! `ttl` from when it was given, by whichever layer; what one process clears the others do not give out either, a second
//! later at most where they keep it themselves. Read next: `remote.rs`, then `mod.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use super::failover::Failure;
use super::providers::Prompt;
use super::remote::Remote;
use super::{CacheStats, FinishReason, Usage};
use crate::base::digest::{DIGEST_BYTES, sha256_of_parts};
use crate::base::redis_metrics::{CacheLayer, RedisMetrics};
use crate::config;

/// What the table itself takes for an answer, in bytes: key, counters, links. An estimate on the high side.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// What tells answers apart.
pub(super) type Key = [u8; DIGEST_BYTES];

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) usage: Usage,
    pub(super) finish: FinishReason,
    /// The id of the model that gave it.
    pub(super) model: String,
    /// Why it was that model and not the chosen one, if it was another.
    pub(super) detour: Option<String>,
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience<'a> {
    /// The one who asks.
    Subject(&'a str),
    /// Everybody who asks the same and says so.
    Public,
}

/// An answer, and for how long it is kept.
#[derive(Clone)]
struct Slot {
    kept: Arc<Kept>,
    keep_for: Duration,
}

/// Answers of Redis have lived for a while when they come here.
struct AsLongAsTheySay;

impl Expiry<Key, Slot> for AsLongAsTheySay {
    fn expire_after_create(&self, _: &Key, slot: &Slot, _: Instant) -> Option<Duration> {
        Some(slot.keep_for)
    }

    fn expire_after_update(&self, _: &Key, slot: &Slot, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(slot.keep_for)
    }
}

/// The answers.
pub(super) struct AnswerCache {
    answers: Cache<Key, Slot>,
    /// Those of all processes.
    remote: Option<Remote>,
    /// The generation of the answers here.
    generation: Mutex<Option<Arc<str>>>,
    ttl: Duration,
    local_hits: AtomicU64,
    shared_hits: AtomicU64,
    misses: AtomicU64,
    metrics: RedisMetrics,
}

impl AnswerCache {
    pub(super) fn new(settings: config::Cache, remote: Option<Remote>, metrics: RedisMetrics) -> Self {
        // One budget holds both bounds: an answer weighs its bytes, but never less than its share of the count.
        let share = u32::try_from(settings.bytes_max / u64::from(settings.answers_max)).unwrap_or(u32::MAX).max(1);
        let weigh = move |_: &Key, slot: &Slot| {
            u32::try_from(slot.kept.text.len().saturating_add(ENTRY_OVERHEAD_BYTES)).unwrap_or(u32::MAX).max(share)
        };
        let answers = Cache::builder()
            .max_capacity(settings.bytes_max)
            .weigher(weigh)
            .time_to_live(settings.ttl)
            .expire_after(AsLongAsTheySay)
            .build();
        Self {
            answers,
            remote,
            generation: Mutex::default(),
            ttl: settings.ttl,
            local_hits: AtomicU64::new(0),
            shared_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            metrics,
        }
    }

    /// The kept answer, or what `ask` gives, and where it was. Of several who miss at once, one asks and the others wait
    /// for it.
    pub(super) async fn get_or_ask(
        &self,
        key: Key,
        ask: impl Future<Output = Result<Kept, Failure>>,
    ) -> (CacheLayer, Result<Arc<Kept>, Arc<Failure>>) {
        self.follow();
        // Set by the one who looks further. Whoever finds an answer here, or waits for somebody else's, does not.
        let layer = OnceLock::new();
        let look_further = async {
            if let Some((kept, keep_for)) = self.recall(&key).await {
                layer.get_or_init(|| CacheLayer::Redis);
                return Ok::<Slot, Failure>(Slot { kept: Arc::new(kept), keep_for });
            }
            layer.get_or_init(|| CacheLayer::Miss);
            let kept = Arc::new(ask.await?);
            self.share(&key, &kept).await;
            Ok(Slot { kept, keep_for: self.ttl })
        };
        let outcome = self.answers.try_get_with(key, look_further).await.map(|slot| slot.kept);
        (layer.into_inner().unwrap_or(CacheLayer::Local), outcome)
    }

    /// The kept answer, and where it was.
    pub(super) async fn get(&self, key: &Key) -> Option<(CacheLayer, Arc<Kept>)> {
        self.follow();
        if let Some(slot) = self.answers.get(key).await {
            return Some((CacheLayer::Local, slot.kept));
        }
        let (kept, keep_for) = self.recall(key).await?;
        let kept = Arc::new(kept);
        self.answers.insert(*key, Slot { kept: Arc::clone(&kept), keep_for }).await;
        Some((CacheLayer::Redis, kept))
    }

    /// Keeps an answer that was told piece by piece.
    pub(super) async fn keep(&self, key: Key, kept: Arc<Kept>) {
        self.share(&key, &kept).await;
        self.answers.insert(key, Slot { kept, keep_for: self.ttl }).await;
    }

    async fn recall(&self, key: &Key) -> Option<(Kept, Duration)> {
        self.remote.as_ref()?.get(key).await
    }

    async fn share(&self, key: &Key, kept: &Kept) {
        if let Some(remote) = &self.remote {
            remote.put(key, kept, self.ttl).await;
        }
    }

    /// Drops the answers here when another process has dropped those of all.
    fn follow(&self) {
        let Some(present) = self.remote.as_ref().and_then(Remote::generation) else { return };
        let mut known = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(&*present) {
            *known = Some(present);
            self.answers.invalidate_all();
        }
    }

    /// A question was answered from a layer of the cache, or could not be.
    pub(super) fn count(&self, layer: CacheLayer) {
        self.metrics.looked_up(layer);
        let counter = match layer {
            CacheLayer::Local => &self.local_hits,
            CacheLayer::Redis => &self.shared_hits,
            CacheLayer::Miss => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops all answers, also those that all processes keep, and says how many there were in this one.
    pub(super) async fn clear(&self) -> u64 {
        if let Some(remote) = &self.remote {
            remote.clear().await;
            // What is dropped below need not be dropped again.
            *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = remote.generation();
        }
        // The table counts in batches; without this it would not know of the last ones.
        self.answers.run_pending_tasks().await;
        let entries = self.answers.entry_count();
        self.answers.invalidate_all();
        self.answers.run_pending_tasks().await;
        entries
    }

    pub(super) async fn stats(&self) -> CacheStats {
        self.answers.run_pending_tasks().await;
        let shared_hits = self.shared_hits.load(Ordering::Relaxed);
        CacheStats {
            entries: self.answers.entry_count(),
            hits: self.local_hits.load(Ordering::Relaxed).saturating_add(shared_hits),
            shared_hits,
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

/// Audience, model, parameters and everything that was said.
pub(super) fn key(audience: Audience<'_>, model: &str, prompt: &Prompt<'_>) -> Key {
    let bits = prompt.temperature.map(|temperature| temperature.to_bits().to_be_bytes());
    let temperature: &[u8] = bits.as_ref().map_or(&[], |bits| &bits[..]);
    let tokens_max = prompt.tokens_max.to_be_bytes();
    let (kind, subject) = match audience {
        Audience::Subject(subject) => ("subject", subject),
        Audience::Public => ("public", ""),
    };
    let mut parts = [kind.as_bytes(), subject.as_bytes(), model.as_bytes(), &tokens_max[..], temperature].to_vec();
    for message in prompt.messages {
        parts.push(message.role.as_str().as_bytes());
        parts.push(message.text.as_bytes());
    }
    sha256_of_parts(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::Metrics;
    use crate::query::{Message, Role};

    fn message(role: Role, text: &str) -> Message {
        Message { role, text: text.into() }
    }

    #[test]
    fn everything_that_may_change_an_answer_is_in_its_key() {
        let (ann, bob) = (Audience::Subject("ann"), Audience::Subject("bob"));
        let (a, b) = ([message(Role::User, "a")], [message(Role::User, "b")]);
        let longer = [message(Role::System, "s"), message(Role::User, "a")];
        let other_role = [message(Role::Assistant, "s"), message(Role::User, "a")];
        let prompt = Prompt { messages: &a, tokens_max: 1, temperature: None };
        let keys = [
            key(ann, "m", &prompt),
            key(bob, "m", &prompt),
            key(Audience::Public, "m", &prompt),
            key(Audience::Subject(""), "m", &prompt),
            key(ann, "n", &prompt),
            key(ann, "m", &Prompt { messages: &b, ..prompt }),
            key(ann, "m", &Prompt { messages: &longer, ..prompt }),
            key(ann, "m", &Prompt { messages: &other_role, ..prompt }),
            key(ann, "m", &Prompt { tokens_max: 2, ..prompt }),
            key(ann, "m", &Prompt { temperature: Some(0.0), ..prompt }),
            key(ann, "m", &Prompt { temperature: Some(1.0), ..prompt }),
        ];
        let distinct: std::collections::HashSet<Key> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(key(ann, "m", &prompt), keys[0]);
    }

    #[tokio::test]
    async fn what_is_kept_can_be_counted_and_dropped() {
        let settings =
            config::Cache { answers_max: 10, bytes_max: 1 << 20, ttl: Duration::from_mins(1), public: false };
        let metrics = Metrics::new().expect("the metrics register");
        let cache = AnswerCache::new(settings, None, metrics.redis().clone());
        let kept = |text: &str| Kept {
            text: text.into(),
            usage: Usage::default(),
            finish: FinishReason::Stop,
            model: "m".into(),
            detour: None,
        };
        cache.keep([1; DIGEST_BYTES], Arc::new(kept("one"))).await;
        let (layer, outcome) = cache.get_or_ask([2; DIGEST_BYTES], async { Ok(kept("two")) }).await;
        assert_eq!((layer, outcome.expect("kept").text.as_str()), (CacheLayer::Miss, "two"));
        let (layer, outcome) = cache.get_or_ask([2; DIGEST_BYTES], async { Ok(kept("three")) }).await;
        assert_eq!((layer, outcome.expect("kept").text.as_str()), (CacheLayer::Local, "two"));
        let (layer, one) = cache.get(&[1; DIGEST_BYTES]).await.expect("kept");
        assert_eq!((layer, one.text.as_str()), (CacheLayer::Local, "one"));
        for layer in [CacheLayer::Local, CacheLayer::Redis, CacheLayer::Local, CacheLayer::Miss] {
            cache.count(layer);
        }
        let stats = cache.stats().await;
        assert_eq!(stats, CacheStats { entries: 2, hits: 3, shared_hits: 1, misses: 1 });
        assert!((stats.hit_rate() - 0.75).abs() < f64::EPSILON);
        assert_eq!(cache.clear().await, 2);
        assert!(cache.get(&[2; DIGEST_BYTES]).await.is_none());
        assert_eq!(cache.stats().await.entries, 0);
    }
}
