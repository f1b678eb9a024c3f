//! Rate: so many in so long, by the generic cell rate algorithm: one theoretical arrival time a key.

use std::time::Duration;

use super::keyed::{KeyId, Keyed, State};
use super::{Decision, Standing};
use crate::base::now::Now;

/// How much may be spent: `count` a `period`, of which `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Nanoseconds until one more unit is free.
    emission_ns: u64,
    /// Nanoseconds by which a key may run ahead: `burst` units' worth.
    tolerance_ns: u64,
}

/// One rate and the state of all its keys.
#[derive(Debug)]
pub(crate) struct RateMeter {
    rate: Rate,
    arrivals: Keyed<Arrival>,
}

/// The state of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    /// When the key will have paid for all it has spent, in steady nanoseconds.
    at_ns: u64,
    /// Whether units were spent here since the store was last heard.
    untold: bool,
}

impl State for Arrival {
    fn is_spent(&self, now: Now) -> bool {
        self.at_ns <= now.steady_ns
    }
}

impl Rate {
    /// `count` units a `period`, `burst` of them at once. Rounded so that never more than that is admitted.
    pub(crate) fn new(count: u32, period: Duration, burst: u32) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let emission_ns = period_ns.div_ceil(u64::from(count.max(1)));
        Self { emission_ns, tolerance_ns: emission_ns.saturating_mul(u64::from(burst.max(1))) }
    }

    /// The same in whole microseconds, as a store with such a clock counts; never more than the rate itself.
    pub(crate) fn in_microseconds(self) -> Self {
        let burst = self.tolerance_ns / self.emission_ns;
        let emission_ns = self.emission_ns.div_ceil(1000) * 1000;
        Self { emission_ns, tolerance_ns: emission_ns.saturating_mul(burst) }
    }

    /// Nanoseconds until one more unit is free.
    pub(crate) fn emission_ns(self) -> u64 {
        self.emission_ns
    }

    /// Nanoseconds by which a key may run ahead.
    pub(crate) fn tolerance_ns(self) -> u64 {
        self.tolerance_ns
    }

    /// What is left to a key that runs ahead so far.
    pub(crate) fn standing(self, ahead_ns: u64) -> Standing {
        Standing {
            remaining: self.tolerance_ns.saturating_sub(ahead_ns) / self.emission_ns,
            reset_after: Duration::from_nanos(ahead_ns),
        }
    }

    /// How long a key that runs ahead so far has to wait until so many units are free.
    pub(crate) fn wait(self, ahead_ns: u64, units: u64) -> Duration {
        let wanted = ahead_ns.saturating_add(self.emission_ns.saturating_mul(units));
        Duration::from_nanos(wanted.saturating_sub(self.tolerance_of(units)))
    }

    /// What costs more than the burst passes when nothing is owed: else it never could.
    fn tolerance_of(self, units: u64) -> u64 {
        self.tolerance_ns.max(self.emission_ns.saturating_mul(units))
    }
}

impl RateMeter {
    /// A rate whose state never exceeds about `keys_max` keys (48 bytes each).
    pub(crate) fn new(rate: Rate, keys_max: usize) -> Self {
        Self { rate, arrivals: Keyed::new(keys_max) }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// The key made of these parts.
    pub(crate) fn id(&self, parts: &[&[u8]]) -> KeyId {
        self.arrivals.id(parts)
    }

    /// Spends so many units of a key.
    pub(crate) fn take(&self, id: KeyId, units: u64, now: Now) -> Decision {
        self.arrivals.with(id, now, |arrival, _| {
            let ahead = arrival.at_ns.saturating_sub(now.steady_ns);
            let wait = self.rate.wait(ahead, units);
            if !wait.is_zero() {
                return Decision::Refused { retry_after: wait };
            }
            let ahead = ahead.saturating_add(self.rate.emission_ns.saturating_mul(units));
            *arrival = Arrival { at_ns: now.steady_ns.saturating_add(ahead), untold: true };
            Decision::Admitted(self.rate.standing(ahead))
        })
    }

    /// How long a key has to wait for so many units; nothing is spent.
    pub(crate) fn wait(&self, id: KeyId, units: u64, now: Now) -> Duration {
        self.rate.wait(self.ahead_ns(id, now), units)
    }

    /// How far a key runs ahead, in nanoseconds.
    pub(crate) fn ahead_ns(&self, id: KeyId, now: Now) -> u64 {
        self.arrivals.look(id).map_or(0, |arrival| arrival.at_ns.saturating_sub(now.steady_ns))
    }

    /// How far a key runs ahead by what the store was not told, and what it told before; 0 when it was told all.
    pub(crate) fn untold_ns(&self, id: KeyId, now: Now) -> u64 {
        let arrival = self.arrivals.look(id).filter(|arrival| arrival.untold);
        arrival.map_or(0, |arrival| arrival.at_ns.saturating_sub(now.steady_ns))
    }

    /// Gives units back.
    pub(crate) fn refund(&self, id: KeyId, units: u64, now: Now) {
        let back = self.rate.emission_ns.saturating_mul(units);
        self.arrivals.with(id, now, |arrival, _| arrival.at_ns = arrival.at_ns.saturating_sub(back));
    }

    /// Spends units whether they are there or not: what was used is used, and is paid for later. The debt ends at one
    /// tolerance beyond what is allowed, so that a single answer cannot shut a key out for ever.
    pub(crate) fn charge(&self, id: KeyId, units: u64, now: Now) {
        self.arrivals.with(id, now, |arrival, _| {
            let owed = arrival.at_ns.max(now.steady_ns).saturating_add(self.rate.emission_ns.saturating_mul(units));
            let most = now.steady_ns.saturating_add(self.rate.tolerance_ns.saturating_mul(2));
            arrival.at_ns = owed.min(most.max(arrival.at_ns));
        });
    }

    /// Takes over what a store knows of a key.
    pub(crate) fn note(&self, id: KeyId, ahead_ns: u64, now: Now) {
        self.arrivals.with(id, now, |arrival, _| {
            *arrival = Arrival { at_ns: now.steady_ns.saturating_add(ahead_ns), untold: false };
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keyed::SHARDS;
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MINUTE: Duration = Duration::from_mins(1);

    fn at(steady_ns: u64) -> Now {
        Now { steady_ns, unix_seconds: steady_ns / SECOND }
    }

    fn admitted(decision: Decision) -> bool {
        matches!(decision, Decision::Admitted(_))
    }

    fn take(meter: &RateMeter, key: &[u8], now_ns: u64) -> Decision {
        meter.take(meter.id(&[key]), 1, at(now_ns))
    }

    #[test]
    fn a_hundred_at_once_then_one_every_600_ms() {
        let meter = RateMeter::new(Rate::new(100, MINUTE, 100), 1000);
        let now = 5 * SECOND;
        for left in (0..100_u32).rev() {
            let reset_after = Duration::from_millis(600) * (100 - left);
            let standing = Standing { remaining: left.into(), reset_after };
            assert_eq!(take(&meter, b"a", now), Decision::Admitted(standing));
        }
        let wait = Duration::from_millis(600);
        assert_eq!(take(&meter, b"a", now), Decision::Refused { retry_after: wait });
        assert!(admitted(take(&meter, b"b", now)), "another key has its own allowance");
        let later = now + 600_000_000;
        assert!(!admitted(take(&meter, b"a", later - 1)), "one nanosecond early is early");
        assert!(admitted(take(&meter, b"a", later)), "waiting as told is enough");
        assert!(!admitted(take(&meter, b"a", later)), "and it was one unit only");
    }

    #[test]
    fn what_is_given_back_can_be_spent_and_a_debt_ends() {
        let meter = RateMeter::new(Rate::new(10, MINUTE, 10), 1000);
        let (id, now) = (meter.id(&[b"a"]), at(SECOND));
        assert!(admitted(meter.take(id, 10, now)) && !admitted(meter.take(id, 1, now)));
        meter.refund(id, 4, now);
        assert!(admitted(meter.take(id, 4, now)) && !admitted(meter.take(id, 1, now)));
        meter.charge(id, 1_000_000, now);
        assert_eq!(meter.ahead_ns(id, now), 2 * meter.rate().tolerance_ns(), "at most twice what is allowed is owed");
        let dear = meter.id(&[b"b"]);
        assert!(admitted(meter.take(dear, 15, now)), "what costs more than the burst passes when nothing is owed");
        assert!(!admitted(meter.take(dear, 1, now)), "and is owed");
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let meter = RateMeter::new(Rate::new(1, MINUTE, 1), 1000);
        assert_ne!(meter.id(&[b"ab", b"c"]), meter.id(&[b"a", b"bc"]));
        assert_eq!(meter.id(&[b"ab", b"c"]), meter.id(&[b"ab", b"c"]));
    }

    #[test]
    fn a_full_store_limits_strangers_together_and_recovers() {
        let meter = RateMeter::new(Rate::new(60, MINUTE, 1), SHARDS);
        let mut refused = 0;
        for number in 0..10_000_u32 {
            refused += u32::from(!admitted(take(&meter, &number.to_be_bytes(), SECOND)));
        }
        // Each shard holds one key and admits one more through the shared state.
        assert_eq!(refused, 10_000 - 2 * u32::try_from(SHARDS).expect("small"));
        assert_eq!(meter.arrivals.len(), SHARDS);
        assert!(admitted(take(&meter, b"a stranger", 10 * SECOND)), "paid-up keys make room");
    }

    /// What a million keys cost: `make measure` prints it.
    #[test]
    #[ignore = "a measurement, for a machine that does nothing else"]
    fn measure_a_million_keys() {
        const KEYS: u32 = 1_000_000;
        let resident_kib = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        let before = resident_kib();
        let meter = RateMeter::new(Rate::new(100, MINUTE, 100), KEYS as usize);
        let round = |now_ns: u64| {
            let began = std::time::Instant::now();
            for number in 0..KEYS {
                std::hint::black_box(take(&meter, &number.to_be_bytes(), now_ns));
            }
            began.elapsed().as_nanos() / u128::from(KEYS)
        };
        let (first, again) = (round(SECOND), round(2 * SECOND));
        let bytes = (resident_kib() - before) * 1024 / u64::from(KEYS);
        println!(
            "rate limit, {KEYS} keys: {first} ns a new key, {again} ns a known one, {bytes} bytes of memory a key"
        );
        for number in 0..3 * KEYS {
            take(&meter, &number.to_be_bytes(), 3 * SECOND);
        }
        let held = meter.arrivals.len();
        println!("after three times as many: {held} keys held, {} KiB in all", resident_kib() - before);
        assert!(held <= KEYS as usize + SHARDS, "{held}");
    }

    proptest! {
        /// The promise itself: over any pattern of arrivals, no window of any length admits more than
        /// `burst + elapsed × rate`.
        #[test]
        fn never_admits_more_than_its_rate(
            count in 1_u32..50, burst in 1_u32..20, gaps in prop::collection::vec(0_u64..3_000_000_000, 1..200),
        ) {
            for rate in [Rate::new(count, Duration::from_secs(10), burst), Rate::new(count, Duration::from_secs(10), burst).in_microseconds()] {
                let meter = RateMeter::new(rate, 10);
                let mut now = SECOND;
                let mut times = Vec::new();
                for gap in &gaps {
                    now += gap;
                    if admitted(take(&meter, b"k", now)) {
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
}
