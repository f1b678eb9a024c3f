//! Ejection: a server that fails requests is left out for a while, and then tried by one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use prometheus::IntGauge;

use crate::config::checked::Eject;

/// However often it fails: so many times the first wait.
const TIMES_MAX: u32 = 10;

/// What is known of one server's failures.
#[derive(Debug)]
pub(super) struct Ejection {
    settings: Option<Eject>,
    /// Failures in a row.
    failures: AtomicU32,
    /// How often in a row it was left out.
    times: AtomicU32,
    /// Left out until then, in steady nanoseconds; 0 when it is not.
    until_ns: AtomicU64,
    /// Whether a request is trying it. Shared with the probe, which may outlive a reload.
    probing: Arc<AtomicBool>,
    gauge: IntGauge,
}

/// How a request goes to a server.
#[derive(Debug)]
pub(super) enum Entry {
    /// As one of many.
    Plain,
    /// As the one that tries whether it is well again.
    Trying(Probe),
    /// Not at all.
    Barred,
}

/// The right to try a server that was left out. Dropping it lets the next one try.
#[derive(Debug)]
pub(super) struct Probe(Arc<AtomicBool>);

impl Ejection {
    pub(super) fn new(settings: Option<&Eject>, gauge: IntGauge) -> Self {
        Self {
            settings: settings.cloned(),
            failures: AtomicU32::new(0),
            times: AtomicU32::new(0),
            until_ns: AtomicU64::new(0),
            probing: Arc::default(),
            gauge,
        }
    }

    /// Whether it is left out now, also when somebody may try it.
    pub(super) fn is_out(&self) -> bool {
        self.until_ns.load(Ordering::Relaxed) != 0
    }

    /// Whether a request may go there: it is in, or its time is over and nobody is trying it.
    pub(super) fn admits(&self, now_ns: u64) -> bool {
        match self.until_ns.load(Ordering::Relaxed) {
            0 => true,
            until => until <= now_ns && !self.probing.load(Ordering::Relaxed),
        }
    }

    /// Lets a request in, if it may go there.
    pub(super) fn enter(&self, now_ns: u64) -> Entry {
        match self.until_ns.load(Ordering::Relaxed) {
            0 => Entry::Plain,
            until if until > now_ns => Entry::Barred,
            _ => match self.probing.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => Entry::Trying(Probe(Arc::clone(&self.probing))),
                Err(_) => Entry::Barred,
            },
        }
    }

    /// Takes in a request that went well; whether it is in again by that.
    pub(super) fn succeeded(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        let was_out = self.is_out() && self.until_ns.swap(0, Ordering::Relaxed) != 0;
        if was_out {
            self.times.store(0, Ordering::Relaxed);
            self.gauge.set(0);
        }
        was_out
    }

    /// Takes in a request that failed; whether it has to go by that. `may_go` says whether so many may be left out.
    pub(super) fn failed(&self, now_ns: u64, may_go: impl FnOnce(u8) -> bool) -> bool {
        let Some(settings) = &self.settings else { return false };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let out = self.is_out();
        // One that was tried and failed goes again at once; one that is out already is told by requests of before.
        if out && self.until_ns.load(Ordering::Relaxed) > now_ns {
            return false;
        }
        if !out && (failures < u32::from(settings.after) || !may_go(settings.max_percent.percent())) {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        let times = (self.times.fetch_add(1, Ordering::Relaxed) + 1).min(TIMES_MAX);
        let wait_ns = u64::try_from(settings.r#for.duration().as_nanos()).unwrap_or(u64::MAX);
        self.until_ns.store(now_ns.saturating_add(wait_ns.saturating_mul(times.into())).max(1), Ordering::Relaxed);
        self.gauge.set(1);
        !out
    }

    pub(super) fn continue_from(&self, earlier: &Self) {
        if self.settings.is_some() {
            self.until_ns.store(earlier.until_ns.load(Ordering::Relaxed), Ordering::Relaxed);
            self.times.store(earlier.times.load(Ordering::Relaxed), Ordering::Relaxed);
            self.gauge.set(i64::from(self.is_out()));
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ejection() -> Ejection {
        let text = "version: 1\nlisteners: { http: { bind: 127.0.0.1:0 } }\nupstreams:\n  a: { targets: [127.0.0.1:1], eject: { after: 3, for: 10s } }\n";
        let config = crate::config::parse("test", text).expect("a sound configuration");
        Ejection::new(config.upstreams[0].eject.as_ref(), IntGauge::new("g", "g").expect("a valid name"))
    }

    #[test]
    fn it_goes_after_failures_in_a_row_and_one_request_brings_it_back() {
        let ejection = ejection();
        let fail = |now| ejection.failed(now, |_| true);
        assert!(!fail(SECOND) && !fail(SECOND));
        assert!(!ejection.succeeded(), "a success between counts");
        assert!(!fail(SECOND) && !fail(SECOND) && fail(SECOND));
        let barred = |now| matches!(ejection.enter(now), Entry::Barred);
        assert!(!ejection.admits(10 * SECOND) && barred(10 * SECOND));
        let probe = ejection.enter(11 * SECOND);
        assert!(matches!(probe, Entry::Trying(_)) && barred(11 * SECOND), "one at a time");
        drop(probe);
        let second = ejection.enter(11 * SECOND);
        assert!(matches!(second, Entry::Trying(_)), "the place was given back, though nobody said how it went");
        assert!(!fail(11 * SECOND), "it is out already");
        drop(second);
        assert!(barred(30 * SECOND), "twice as long the second time");
        assert!(matches!(ejection.enter(31 * SECOND), Entry::Trying(_)));
        assert!(ejection.succeeded() && ejection.admits(31 * SECOND));
    }

    #[test]
    fn nobody_goes_when_too_many_would() {
        let ejection = ejection();
        assert!((0..10).all(|_| !ejection.failed(SECOND, |_| false)));
        assert!(ejection.admits(SECOND));
    }
}
