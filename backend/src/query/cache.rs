//! Cache: answers that are kept for a while.
//!
//! For: the same caller asking the same again, also at the same time: then the model is asked once. May touch: memory.
//! Promises: at most `answers_max` answers and `bytes_max` bytes; an answer goes only to the one who asked, because the
//! key holds the subject; failures are not kept. Read next: `mod.rs`.

use std::sync::Arc;

use moka::future::Cache;

use super::Usage;
use super::providers::{Prompt, ProviderError};
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
}

/// The answers.
pub(super) struct AnswerCache {
    answers: Cache<Key, Arc<Kept>>,
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
        Self { answers }
    }

    /// The kept answer, or what `ask` gives. Of several who miss at once, one asks and the others wait for it.
    pub(super) async fn get_or_ask(
        &self,
        key: Key,
        ask: impl Future<Output = Result<Kept, ProviderError>>,
    ) -> Result<Arc<Kept>, Arc<ProviderError>> {
        self.answers.try_get_with(key, async { ask.await.map(Arc::new) }).await
    }
}

/// Subject, model, parameters and text.
pub(super) fn key(subject: &str, model: &str, prompt: &Prompt<'_>) -> Key {
    let temperature = prompt.temperature.map(|temperature| temperature.to_bits().to_be_bytes());
    sha256_of_parts(&[
        subject.as_bytes(),
        model.as_bytes(),
        &prompt.tokens_max.to_be_bytes(),
        temperature.as_ref().map_or(&[], |bits| &bits[..]),
        prompt.text.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_may_change_an_answer_is_in_its_key() {
        let prompt = Prompt { text: "a", tokens_max: 1, temperature: None };
        let keys = [
            key("u", "m", &prompt),
            key("v", "m", &prompt),
            key("u", "n", &prompt),
            key("u", "m", &Prompt { text: "b", ..prompt }),
            key("u", "m", &Prompt { tokens_max: 2, ..prompt }),
            key("u", "m", &Prompt { temperature: Some(0.0), ..prompt }),
            key("u", "m", &Prompt { temperature: Some(1.0), ..prompt }),
        ];
        let distinct: std::collections::HashSet<Key> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(key("u", "m", &prompt), keys[0]);
    }
}
