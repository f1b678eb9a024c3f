//! Health: who is fit?
//!
//! For: one flag per endpoint, fed by active checks and by connections that requests could not open.
//! May touch: the network, in `active.rs`. Promises: a flag flips only after its threshold; without checks nobody is ever
//! unfit, since nobody would find out about the recovery. Read next: `active.rs`.

pub(crate) mod active;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use prometheus::IntGauge;

use crate::config::checked::Health;

/// What is known of one endpoint.
#[derive(Debug)]
pub(crate) struct HealthState {
    healthy: AtomicBool,
    /// Successes in a row while unfit, failures in a row while fit.
    streak: AtomicU32,
    thresholds: Option<Thresholds>,
    gauge: IntGauge,
}

#[derive(Clone, Copy, Debug)]
struct Thresholds {
    up_after: u32,
    down_after: u32,
}

impl HealthState {
    /// Fit until shown otherwise: a gateway that starts must not refuse what it has not looked at.
    pub(crate) fn new(health: Option<&Health>, gauge: IntGauge) -> Self {
        gauge.set(1);
        Self {
            healthy: AtomicBool::new(true),
            streak: AtomicU32::new(0),
            thresholds: health.map(|health| Thresholds { up_after: health.up_after, down_after: health.down_after }),
            gauge,
        }
    }

    /// Goes on from what was known of the same server under an earlier configuration.
    pub(crate) fn continue_from(&self, earlier: &HealthState) {
        if self.thresholds.is_some() {
            self.healthy.store(earlier.is_healthy(), Ordering::Relaxed);
            self.gauge.set(i64::from(earlier.is_healthy()));
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Takes in a connection that a request could open: the failures before it were not in a row.
    pub(crate) fn connected(&self) {
        if self.streak.load(Ordering::Relaxed) != 0 && self.is_healthy() {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// Takes in one check, or a connection that a request could not open. Returns the new state when it flipped.
    pub(crate) fn report(&self, success: bool) -> Option<bool> {
        let thresholds = self.thresholds?;
        if success == self.is_healthy() {
            self.streak.store(0, Ordering::Relaxed);
            return None;
        }
        let needed = if success { thresholds.up_after } else { thresholds.down_after };
        if self.streak.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return None;
        }
        self.streak.store(0, Ordering::Relaxed);
        // Two reports at once may both get here; only the one that changes the flag tells of it.
        let flipped = self.healthy.swap(success, Ordering::Relaxed) != success;
        self.gauge.set(i64::from(success));
        flipped.then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(thresholds: Option<(u32, u32)>) -> HealthState {
        HealthState {
            healthy: AtomicBool::new(true),
            streak: AtomicU32::new(0),
            thresholds: thresholds.map(|(up_after, down_after)| Thresholds { up_after, down_after }),
            gauge: IntGauge::new("g", "g").expect("a valid name"),
        }
    }

    #[test]
    fn flips_only_after_its_threshold_and_a_success_between_counts() {
        let state = state(Some((2, 3)));
        let reports = [false, false, true, false, false, false, true, false, true, true];
        let flips: Vec<_> = reports.into_iter().map(|success| state.report(success)).collect();
        let none = None;
        assert_eq!(flips, [none, none, none, none, none, Some(false), none, none, none, Some(true)]);
    }

    #[test]
    fn without_checks_nobody_is_unfit() {
        let state = state(None);
        assert!((0..10).all(|_| state.report(false).is_none()) && state.is_healthy());
    }
}
