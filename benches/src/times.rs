//! Times: what a load has measured, one number a request.
//!
//! For: percentiles. May touch: nothing. Promises: a percentile is a time that was measured, never one in between.
//! Read next: `bin/backend-load.rs`.

use std::time::Duration;

/// Measured times, shortest first.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Sorts them.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which `percent` of all were done; zero where nothing was measured.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        self.permille(percent * 10)
    }

    /// The time within which so many of a thousand were done; zero where nothing was measured.
    #[must_use]
    pub fn permille(&self, permille: usize) -> Duration {
        let rank = (self.0.len() * permille).div_ceil(1000).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }
}

/// Milliseconds, for a table.
#[must_use]
pub fn ms(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.2} ms") } else { format!("{milliseconds:.1} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times = Times::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.count(), 200);
        for (percent, milliseconds) in [(1, 2), (50, 100), (95, 190), (99, 198), (100, 200)] {
            assert_eq!(times.percentile(percent), Duration::from_millis(milliseconds), "{percent}");
        }
        assert_eq!(Times::default().percentile(99), Duration::ZERO);
    }
}
