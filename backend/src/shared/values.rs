//! Values: texts that are kept for a while, for every process.
//!
//! For: the answer cache. May touch: Redis.
//! Promises: a value has a bound and an end; after `clear` none from before it is given out, by no process, also when
//! Redis was away at that moment: then nothing is read until it has been told.
//! How: each value carries the name of the generation it was put in, and all are void once that changes. No key is looked
//! for or deleted; what is void runs out by itself.
//! Read next: `query/cache.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Cmd;

use super::{Away, Shared};
use crate::base::ids;

/// Stands between the generation and the value.
const SEPARATOR: char = '\n';

/// Values of one kind.
pub struct Values {
    shared: Shared,
    /// They were cleared while Redis was away, and it does not know.
    must_clear: AtomicBool,
}

/// A value that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was put.
    pub text: String,
    /// How much longer it is kept.
    pub left: Duration,
}

impl Values {
    /// The answers that are kept.
    #[must_use]
    pub fn answers(shared: Shared) -> Self {
        Self { shared, must_clear: AtomicBool::new(false) }
    }

    /// The value of this name. What is no value, or from before the last `clear`, is not there.
    ///
    /// # Errors
    /// `Away`.
    pub async fn get(&self, name: &str) -> Result<Option<Found>, Away> {
        if self.must_clear.load(Ordering::Acquire) {
            self.tell_cleared().await?;
        }
        let key = self.shared.answer_key(name);
        let mut questions = redis::pipe();
        questions.add_command(self.shared.generation_question());
        questions.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
        let (generation, kept, left_ms): (Option<String>, Option<Vec<u8>>, i64) =
            self.shared.ask_all(&questions).await?;
        self.shared.heard(generation.as_deref());
        Ok(kept.and_then(|kept| {
            let kept = String::from_utf8(kept).ok()?;
            let (of, text) = kept.split_once(SEPARATOR)?;
            let left = Duration::from_millis(u64::try_from(left_ms).ok()?);
            (of == generation.as_deref().unwrap_or_default()).then(|| Found { text: text.to_owned(), left })
        }))
    }

    /// Keeps a value for so long. One that is too large is left out; says whether it was kept.
    ///
    /// # Errors
    /// `Away`.
    pub async fn put(&self, name: &str, text: &str, ttl: Duration) -> Result<bool, Away> {
        if text.len() > self.shared.inner.answer_bytes_max || self.must_clear.load(Ordering::Acquire) {
            return Ok(false);
        }
        let generation = self.generation().unwrap_or_default();
        let mut command = redis::cmd("SET");
        command.arg(self.shared.answer_key(name)).arg(format!("{generation}{SEPARATOR}{text}"));
        command.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self.shared.ask::<()>(&command).await.map(|()| true)
    }

    /// Voids all values.
    pub async fn clear(&self) {
        self.must_clear.store(true, Ordering::Release);
        if self.tell_cleared().await.is_err() {
            tracing::warn!("Redis cannot be told that answers were cleared; none is read from it until it is");
        }
    }

    /// The name of the present generation, as last heard. Where it changes, everything from before is void; `None` where
    /// nothing was ever cleared.
    #[must_use]
    pub fn generation(&self) -> Option<Arc<str>> {
        self.shared.generation()
    }

    async fn tell_cleared(&self) -> Result<(), Away> {
        let generation = ids::new_id();
        let mut command = redis::cmd("SET");
        command.arg(self.shared.generation_key()).arg(&generation);
        self.shared.ask::<()>(&command).await?;
        self.shared.heard(Some(&generation));
        self.must_clear.store(false, Ordering::Release);
        Ok(())
    }
}

impl Shared {
    fn answer_key(&self, name: &str) -> String {
        format!("{}:answers:{name}", self.inner.prefix)
    }

    fn generation_key(&self) -> String {
        self.answer_key("generation")
    }

    /// Which generation is the present one.
    pub(super) fn generation_question(&self) -> Cmd {
        let mut command = redis::cmd("GET");
        command.arg(self.generation_key());
        command
    }
}
