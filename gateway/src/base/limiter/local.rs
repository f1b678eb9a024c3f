//! Limits held in this process: one theoretical arrival time a key, in shards of bounded size.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ahash::RandomState;

/// A power of two, so that the shard is a mask of the hash. 64 locks among a few dozen threads are almost never shared.
const SHARDS: usize = 64;

/// A shard is swept when it has grown to twice what was left by the last sweep, but not below this many keys.
const SWEEP_KEYS_MIN: usize = 256;

/// When a shard is full of live keys, it is not swept again before this much time has passed.
const SWEEP_INTERVAL_NS: u64 = 1_000_000_000;

/// How much may be spent: `count` a `period`, of which `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Nanoseconds until one more unit is free.
    emission_ns: u64,
    /// Nanoseconds by which a key may run ahead: `burst` units' worth.
    tolerance_ns: u64,
}

/// What the limiter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Spent; so many units are left at this moment, and all of them again after this time.
    Admitted { remaining: u64, reset_after: Duration },
    /// Not spent; the next unit is free after this time.
    Refused { retry_after: Duration },
}

/// One limit and the state of all its keys.
#[derive(Debug)]
pub(crate) struct LocalLimiter {
    quota: Quota,
    keys_max_per_shard: usize,
    hasher: RandomState,
    second_hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

/// Theoretical arrival times by key: when the key will have paid for all it has spent.
#[derive(Debug)]
struct Shard {
    arrivals: HashMap<u128, u64, RandomState>,
    sweep_at_keys: usize,
    swept_at_ns: u64,
    /// Shared by the keys that found no place: they are limited together rather than not at all.
    overflow_arrival: u64,
}

impl Quota {
    /// `count` units a `period`, `burst` of them at once. Rounded so that never more than that is admitted.
    pub(crate) fn new(count: u32, period: Duration, burst: u32) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let emission_ns = period_ns.div_ceil(u64::from(count.max(1)));
        Self { emission_ns, tolerance_ns: emission_ns.saturating_mul(u64::from(burst.max(1))) }
    }

    /// Spends one unit of a key that has paid until `arrival`. Returns the new arrival when admitted.
    fn spend(self, arrival: u64, now_ns: u64) -> (u64, Decision) {
        let paid_until = arrival.max(now_ns).saturating_add(self.emission_ns);
        let ahead = paid_until - now_ns;
        if ahead > self.tolerance_ns {
            let wait = Duration::from_nanos(ahead - self.tolerance_ns);
            return (arrival, Decision::Refused { retry_after: wait });
        }
        let remaining = (self.tolerance_ns - ahead) / self.emission_ns;
        (paid_until, Decision::Admitted { remaining, reset_after: Duration::from_nanos(ahead) })
    }
}

impl LocalLimiter {
    /// A limit whose state never exceeds about `keys_max` keys (48 bytes each).
    pub(crate) fn new(quota: Quota, keys_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self {
            quota,
            keys_max_per_shard: keys_max.div_ceil(SHARDS),
            hasher: RandomState::new(),
            second_hasher: RandomState::new(),
            shards,
        }
    }

    /// Spends one unit of `key` at `now_ns`, a steady time in nanoseconds.
    pub(crate) fn take(&self, key: &[u8], now_ns: u64) -> Decision {
        // Two seeded 64-bit hashes: a stranger cannot aim at somebody else's bucket, and chance will not.
        let (low, high) = (self.hasher.hash_one(key), self.second_hasher.hash_one(key));
        let id = (u128::from(high) << 64) | u128::from(low);
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits choose the shard")]
        let shard = &self.shards[low as usize % SHARDS];
        // A panic inside the lock could only come from the allocator; the state stays sound, so it is used on.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.spend(id, now_ns, self.quota, self.keys_max_per_shard)
    }
}

impl Shard {
    fn new() -> Self {
        Self { arrivals: HashMap::default(), sweep_at_keys: SWEEP_KEYS_MIN, swept_at_ns: 0, overflow_arrival: 0 }
    }

    fn spend(&mut self, id: u128, now_ns: u64, quota: Quota, keys_max: usize) -> Decision {
        if let Some(arrival) = self.arrivals.get_mut(&id) {
            let (next, decision) = quota.spend(*arrival, now_ns);
            *arrival = next;
            return decision;
        }
        if self.arrivals.len() >= self.sweep_at_keys.min(keys_max) {
            self.sweep(now_ns);
        }
        if self.arrivals.len() >= keys_max {
            let (next, decision) = quota.spend(self.overflow_arrival, now_ns);
            self.overflow_arrival = next;
            return decision;
        }
        let (arrival, decision) = quota.spend(0, now_ns);
        self.arrivals.insert(id, arrival);
        decision
    }

    /// Forgets the keys that have paid for everything: they are indistinguishable from new ones.
    fn sweep(&mut self, now_ns: u64) {
        if self.swept_at_ns != 0 && now_ns.saturating_sub(self.swept_at_ns) < SWEEP_INTERVAL_NS {
            return;
        }
        self.swept_at_ns = now_ns;
        self.arrivals.retain(|_, arrival| *arrival > now_ns);
        self.sweep_at_keys = (self.arrivals.len() * 2).max(SWEEP_KEYS_MIN);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MINUTE: Duration = Duration::from_mins(1);

    fn admitted(decision: Decision) -> bool {
        matches!(decision, Decision::Admitted { .. })
    }

    #[test]
    fn a_hundred_at_once_then_one_every_600_ms() {
        let limiter = LocalLimiter::new(Quota::new(100, MINUTE, 100), 1000);
        let now = 5 * SECOND;
        for left in (0..100_u32).rev() {
            let reset_after = Duration::from_millis(600) * (100 - left);
            assert_eq!(limiter.take(b"a", now), Decision::Admitted { remaining: left.into(), reset_after });
        }
        let wait = Duration::from_millis(600);
        assert_eq!(limiter.take(b"a", now), Decision::Refused { retry_after: wait });
        assert!(admitted(limiter.take(b"b", now)), "another key has its own allowance");
        let later = now + 600_000_000;
        assert!(!admitted(limiter.take(b"a", later - 1)), "one nanosecond early is early");
        assert!(admitted(limiter.take(b"a", later)), "waiting as told is enough");
        assert!(!admitted(limiter.take(b"a", later)), "and it was one unit only");
    }

    #[test]
    fn a_full_store_limits_strangers_together_and_recovers() {
        let limiter = LocalLimiter::new(Quota::new(60, MINUTE, 1), SHARDS);
        let mut refused = 0;
        for number in 0..10_000_u32 {
            refused += u32::from(!admitted(limiter.take(&number.to_be_bytes(), SECOND)));
        }
        // Each shard holds one key and admits one more through the shared bucket.
        assert_eq!(refused, 10_000 - 2 * u32::try_from(SHARDS).expect("small"));
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().expect("unpoisoned").arrivals.len()).sum();
        assert_eq!(held, SHARDS);
        assert!(admitted(limiter.take(b"a stranger", 10 * SECOND)), "paid-up keys make room");
    }

    proptest! {
        /// The promise itself: over any pattern of arrivals, no window of any length admits more than
        /// `burst + elapsed × rate`.
        #[test]
        fn never_admits_more_than_its_rate(
            count in 1_u32..50, burst in 1_u32..20, gaps in prop::collection::vec(0_u64..3_000_000_000, 1..200),
        ) {
            let quota = Quota::new(count, Duration::from_secs(10), burst);
            let limiter = LocalLimiter::new(quota, 10);
            let mut now = SECOND;
            let mut times = Vec::new();
            for gap in gaps {
                now += gap;
                if admitted(limiter.take(b"k", now)) {
                    times.push(now);
                }
            }
            for (first, start) in times.iter().enumerate() {
                for (index, end) in times.iter().enumerate().skip(first) {
                    let used = (index - first + 1) as u64;
                    let allowed = u64::from(burst) + (end - start) * u64::from(count) / (10 * SECOND);
                    prop_assert!(used <= allowed, "{used} > {allowed}");
                }
            }
        }
    }
}
