//! Retries as a share of requests, so that an outage is not multiplied by them.

use std::sync::atomic::{AtomicI64, Ordering};

/// Units of one retry: a request pays in hundredths of one.
const RETRY: i64 = 100;

/// Retries that may be saved up. Enough to move the requests in flight off a server that just died.
const RESERVE_RETRIES_MAX: i64 = 64;

/// A token bucket filled by requests rather than by time.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: AtomicI64,
    /// What a request pays in: the percentage of requests that may be retried.
    deposit: i64,
}

impl RetryBudget {
    pub(super) fn new(percent: u8) -> Self {
        Self { tokens: AtomicI64::new(RESERVE_RETRIES_MAX * RETRY), deposit: i64::from(percent) }
    }

    /// Pays in for one request.
    pub(super) fn deposit(&self) {
        // Two threads may overshoot the cap by a deposit each, which is of no consequence; a full bucket writes nothing.
        if self.tokens.load(Ordering::Relaxed) < RESERVE_RETRIES_MAX * RETRY {
            self.tokens.fetch_add(self.deposit, Ordering::Relaxed);
        }
    }

    /// Pays for one retry, if there is enough.
    pub(super) fn withdraw(&self) -> bool {
        let before = self.tokens.fetch_sub(RETRY, Ordering::Relaxed);
        if before < RETRY {
            self.tokens.fetch_add(RETRY, Ordering::Relaxed);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_a_fifth_is_retried() {
        let budget = RetryBudget::new(20);
        let retried = (0..10_000)
            .filter(|_| {
                budget.deposit();
                budget.withdraw()
            })
            .count();
        assert!((2_000..=2_000 + 65 + 16).contains(&retried), "{retried}");
    }
}
