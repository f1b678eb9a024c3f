//! Last used: when keys were last shown, without a write a request.
//!
//! For: `last_used_at` in the list of keys. May touch: `storage`, only from `flush`.
//! Promises: a key costs at most one write in `FLUSH_PERIOD`; `KEYS_MAX` keys are remembered in between, and what is
//! beyond is counted and told in the log. Read next: `app.rs`, which flushes on a timer and at the end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::storage::{StorageError, Store};

/// How often what is remembered is written down.
pub const FLUSH_PERIOD: Duration = Duration::from_mins(1);

/// Keys remembered between two flushes.
const KEYS_MAX: usize = 10_000;

/// Remembers when keys were used.
#[derive(Default)]
pub struct LastUsed {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    uses: HashMap<String, i64>,
    beyond: u64,
}

impl LastUsed {
    /// The key with this public id was used at this second.
    pub fn note(&self, id: &str, at: i64) {
        let mut pending = self.lock();
        if let Some(last) = pending.uses.get_mut(id) {
            *last = at.max(*last);
        } else if pending.uses.len() < KEYS_MAX {
            pending.uses.insert(id.to_owned(), at);
        } else {
            pending.beyond += 1;
        }
    }

    /// Writes down what is remembered. When that fails, it is remembered for the next time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn flush(&self, store: &Store) -> Result<(), StorageError> {
        let taken = std::mem::take(&mut *self.lock());
        if taken.beyond > 0 {
            tracing::warn!(uses = taken.beyond, "uses of API keys were not noted: more than {KEYS_MAX} keys at once");
        }
        if taken.uses.is_empty() {
            return Ok(());
        }
        let uses: Vec<(String, i64)> = taken.uses.into_iter().collect();
        let written = store.api_keys_note_use(&uses).await;
        if written.is_err() {
            for (id, at) in &uses {
                self.note(id, *at);
            }
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // The map is sound after every single step, so a panic elsewhere does not spoil it.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_counts_and_the_number_of_keys_is_bounded() {
        let last_used = LastUsed::default();
        last_used.note("a", 5);
        last_used.note("a", 3);
        for key in 0..KEYS_MAX {
            last_used.note(&key.to_string(), 1);
        }
        let pending = last_used.lock();
        assert_eq!(pending.uses.get("a"), Some(&5));
        assert_eq!(pending.uses.len(), KEYS_MAX);
        assert_eq!(pending.beyond, 1);
    }
}
