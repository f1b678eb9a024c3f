//! Keyed: a bounded table from keys to small states, in shards.
//!
//! A key is kept as 128 bits of two seeded hashes: a stranger cannot aim at somebody else's state, and chance will not. A key
//! that finds its shard full shares one state with the others that did: they are limited together rather than not at all.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

use crate::base::now::Now;

/// A power of two, so that the shard is a mask of the hash. 64 locks among a few dozen threads are almost never shared.
pub(super) const SHARDS: usize = 64;

/// A shard is swept when it has grown to twice what was left by the last sweep, but not below this many keys.
const SWEEP_KEYS_MIN: usize = 256;

/// When a shard is full of live keys, it is not swept again before this much time has passed.
const SWEEP_INTERVAL_NS: u64 = 1_000_000_000;

/// A key, as tables know it. Good in this process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(u128);

/// The state of one key.
pub(super) trait State: Copy + Default {
    /// Whether it is as good as a new one, so that it can be forgotten.
    fn is_spent(&self, now: Now) -> bool;
}

/// The table.
#[derive(Debug)]
pub(super) struct Keyed<S> {
    keys_max_per_shard: usize,
    first: RandomState,
    second: RandomState,
    shards: Box<[Mutex<Shard<S>>]>,
}

#[derive(Debug)]
struct Shard<S> {
    states: HashMap<u128, S, RandomState>,
    sweep_at_keys: usize,
    swept_at_ns: u64,
    overflow: S,
}

/// Where a key's state stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standpoint {
    Own,
    /// Shared with the others that found no place.
    Overflow,
}

impl<S: State> Keyed<S> {
    /// A table of at most about `keys_max` keys.
    pub(super) fn new(keys_max: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                states: HashMap::default(),
                sweep_at_keys: SWEEP_KEYS_MIN,
                swept_at_ns: 0,
                overflow: S::default(),
            })
        };
        Self {
            keys_max_per_shard: keys_max.div_ceil(SHARDS),
            first: RandomState::new(),
            second: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    /// The key made of these parts. Lengths count, so that `ab` `c` is not `a` `bc`.
    pub(super) fn id(&self, parts: &[&[u8]]) -> KeyId {
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            for part in parts {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            u128::from(hasher.finish())
        };
        KeyId((hash(&self.second) << 64) | hash(&self.first))
    }

    /// Works on the state of a key, which is made when it is not there.
    pub(super) fn with<R>(&self, id: KeyId, now: Now, work: impl FnOnce(&mut S, Standpoint) -> R) -> R {
        let mut shard = self.shard(id);
        if let Some(state) = shard.states.get_mut(&id.0) {
            return work(state, Standpoint::Own);
        }
        if shard.states.len() >= shard.sweep_at_keys.min(self.keys_max_per_shard) {
            shard.sweep(now);
        }
        if shard.states.len() >= self.keys_max_per_shard {
            return work(&mut shard.overflow, Standpoint::Overflow);
        }
        let mut state = S::default();
        let result = work(&mut state, Standpoint::Own);
        shard.states.insert(id.0, state);
        result
    }

    /// Works on the state at this standpoint, if it is still there.
    pub(super) fn with_known<R>(&self, id: KeyId, at: Standpoint, work: impl FnOnce(&mut S) -> R) -> Option<R> {
        let mut shard = self.shard(id);
        match at {
            Standpoint::Own => shard.states.get_mut(&id.0).map(work),
            Standpoint::Overflow => Some(work(&mut shard.overflow)),
        }
    }

    /// The state of a key, if there is one.
    pub(super) fn look(&self, id: KeyId) -> Option<S> {
        self.shard(id).states.get(&id.0).copied()
    }

    /// Keys held now.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("unpoisoned").states.len()).sum()
    }

    fn shard(&self, id: KeyId) -> MutexGuard<'_, Shard<S>> {
        // Only the lowest bits choose the shard.
        let shard = &self.shards[(id.0 % SHARDS as u128) as usize];
        // A panic inside the lock could only come from the allocator; the state stays sound, so it is used on.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: State> Shard<S> {
    /// Forgets the keys that are indistinguishable from new ones.
    fn sweep(&mut self, now: Now) {
        if self.swept_at_ns != 0 && now.steady_ns.saturating_sub(self.swept_at_ns) < SWEEP_INTERVAL_NS {
            return;
        }
        self.swept_at_ns = now.steady_ns;
        self.states.retain(|_, state| !state.is_spent(now));
        self.sweep_at_keys = (self.states.len() * 2).max(SWEEP_KEYS_MIN);
    }
}
