//! Cache: answers that are kept for a while.
//!
//! For: the same caller asking the same again, also at the same time: then the model is asked once. May touch: memory.
//! Promises: at most `answers_max` answers and `bytes_max` bytes; an answer goes only to the one who asked, because the
//! key holds the subject, unless it was asked for as public; failures are not kept. Read next: `mod.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::future::Cache;

use super::failover::Failure;
use super::providers::Prompt;
use super::{CacheStats, FinishReason, Usage};
use crate::base::digest::{DIGEST_BYTES, sha256_of_parts};
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

/// The answers.
pub(super) struct AnswerCache {
    answers: Cache<Key, Arc<Kept>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl AnswerCache {
    pub(super) fn new(settings: config::Cache) -> Self {
        // One budget holds both bounds: an answer weighs its bytes, but never less than its share of the count.
        let share = u32::try_from(settings.bytes_max / u64::from(settings.answers_max)).unwrap_or(u32::MAX).max(1);
        let weigh = move |_: &Key, kept: &Arc<Kept>| {
            u32::try_from(kept.text.len().saturating_add(ENTRY_OVERHEAD_BYTES)).unwrap_or(u32::MAX).max(share)
        };
        let answers =
            Cache::builder().max_capacity(settings.bytes_max).weigher(weigh).time_to_live(settings.ttl).build();
        Self { answers, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// The kept answer, or what `ask` gives. Of several who miss at once, one asks and the others wait for it.
    pub(super) async fn get_or_ask(
        &self,
        key: Key,
        ask: impl Future<Output = Result<Kept, Failure>>,
    ) -> Result<Arc<Kept>, Arc<Failure>> {
        self.answers.try_get_with(key, async { ask.await.map(Arc::new) }).await
    }

    /// The kept answer.
    pub(super) async fn get(&self, key: &Key) -> Option<Arc<Kept>> {
        self.answers.get(key).await
    }

    /// Keeps an answer that was told piece by piece.
    pub(super) async fn keep(&self, key: Key, kept: Arc<Kept>) {
        self.answers.insert(key, kept).await;
    }

    /// A question was answered from the cache, or could not be.
    pub(super) fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops all answers, and says how many there were.
    pub(super) async fn clear(&self) -> u64 {
        // The table counts in batches; without this it would not know of the last ones.
        self.answers.run_pending_tasks().await;
        let entries = self.answers.entry_count();
        self.answers.invalidate_all();
        self.answers.run_pending_tasks().await;
        entries
    }

    pub(super) async fn stats(&self) -> CacheStats {
        self.answers.run_pending_tasks().await;
        CacheStats {
            entries: self.answers.entry_count(),
            hits: self.hits.load(Ordering::Relaxed),
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
        let settings = config::Cache {
            answers_max: 10,
            bytes_max: 1 << 20,
            ttl: std::time::Duration::from_mins(1),
            public: false,
        };
        let cache = AnswerCache::new(settings);
        let kept = |text: &str| Kept {
            text: text.into(),
            usage: Usage::default(),
            finish: FinishReason::Stop,
            model: "m".into(),
            detour: None,
        };
        cache.keep([1; DIGEST_BYTES], Arc::new(kept("one"))).await;
        cache.get_or_ask([2; DIGEST_BYTES], async { Ok(kept("two")) }).await.expect("kept");
        assert!(cache.get(&[1; DIGEST_BYTES]).await.is_some_and(|kept| kept.text == "one"));
        cache.count(true);
        cache.count(true);
        cache.count(true);
        cache.count(false);
        let stats = cache.stats().await;
        assert_eq!(stats, CacheStats { entries: 2, hits: 3, misses: 1 });
        assert!((stats.hit_rate() - 0.75).abs() < f64::EPSILON);
        assert_eq!(cache.clear().await, 2);
        assert!(cache.get(&[2; DIGEST_BYTES]).await.is_none());
        assert_eq!(cache.stats().await.entries, 0);
    }
}
