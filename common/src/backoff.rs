//! Back-off: how long to wait before the next attempt, after some have failed.
//!
//! For: whatever either program tries again. May touch: nothing but chance. Promises: no wait is longer than the longest;
//! those who failed together do not come back together, if they spread their waits. Read next: whoever waits.

use std::time::Duration;

/// The wait after so many failures in a row: the first one, doubled for each failure behind the first, up to the longest.
#[must_use]
pub fn wait_after(failures: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

/// Some wait from the half of this one to all of it, by chance.
#[must_use]
pub fn spread(wait: Duration) -> Duration {
    let half = wait / 2;
    half + half.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        for (failures, millis) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1000), (33, 1000), (u32::MAX, 1000)] {
            assert_eq!(wait_after(failures, first, longest), Duration::from_millis(millis), "{failures}");
        }
        assert_eq!(wait_after(9, Duration::ZERO, longest), Duration::ZERO);
        assert_eq!(wait_after(1, longest, first), first);
    }

    #[test]
    fn a_spread_wait_is_half_of_it_at_the_least() {
        let wait = Duration::from_secs(10);
        let spread: Vec<Duration> = (0..100).map(|_| spread(wait)).collect();
        assert!(spread.iter().all(|spread| (wait / 2..=wait).contains(spread)), "{spread:?}");
        assert!(spread.iter().any(|other| *other != spread[0]), "they all come back together");
    }
}
