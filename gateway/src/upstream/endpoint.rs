//! Endpoint: one server, and what is known of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};

use super::ejection::{Ejection, Entry, Probe};
use super::health::HealthState;
use super::peer::PeerTemplate;
use crate::config::checked::Place;

/// Over this time an answer's duration loses its weight in the moving average.
const EWMA_DECAY_NS: f64 = 10e9;

/// What an endpoint counts as taking before it has answered once: quick enough to be tried, and soon known better.
const EWMA_UNKNOWN_NS: f64 = 1e6;

/// The least share of a server that starts slowly.
const SLOW_START_LEAST: f64 = 0.1;

/// One server.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub place: Place,
    /// The address as text, for logs and metrics.
    pub label: Arc<str>,
    pub weight: u16,
    /// A number made from its address, the same in every gateway.
    pub hash: u64,
    pub template: PeerTemplate,
    pub health: HealthState,
    pub(super) ejection: Ejection,
    in_flight: AtomicU32,
    /// How long its answers took lately, in nanoseconds, as the bits of an `f64`.
    ewma_ns: AtomicU64,
    /// When that was last changed, in steady nanoseconds.
    ewma_at_ns: AtomicU64,
    /// Since when it is in service; 0 for long enough.
    pub(super) since_ns: AtomicU64,
}

/// One request's place at one endpoint. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub endpoint: Arc<Endpoint>,
    /// Held by the one request that tries whether an endpoint that was left out is well again.
    pub(super) _probe: Option<Probe>,
}

impl Endpoint {
    pub(super) fn new(
        place: Place,
        weight: u16,
        template: PeerTemplate,
        health: HealthState,
        ejection: Ejection,
        since_ns: u64,
    ) -> Self {
        let label: Arc<str> = place.to_string().into();
        Self {
            hash: super::select::hash(label.as_bytes()),
            place,
            weight,
            template,
            health,
            ejection,
            in_flight: AtomicU32::new(0),
            ewma_ns: AtomicU64::new(0),
            ewma_at_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(since_ns),
            label,
        }
    }

    /// Requests it is working on for this gateway.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a place. `None` when it was left out, and somebody else is trying it.
    pub(super) fn ticket(self: &Arc<Self>, now_ns: u64) -> Option<Ticket> {
        let probe = match self.ejection.enter(now_ns) {
            Entry::Plain => None,
            Entry::Trying(probe) => Some(probe),
            Entry::Barred => return None,
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { endpoint: Arc::clone(self), _probe: probe })
    }

    /// Takes a place whatever is known of it.
    pub(super) fn ticket_anyway(self: &Arc<Self>) -> Ticket {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ticket { endpoint: Arc::clone(self), _probe: None }
    }

    /// Whether it may be asked: its checks are well, and it is not left out.
    pub(super) fn is_fit(&self, now_ns: u64) -> bool {
        self.health.is_healthy() && self.ejection.admits(now_ns)
    }

    /// Takes in how long an answer took to begin: slower than usual counts at once, faster by and by.
    pub(crate) fn answered(&self, took: Duration, now_ns: u64) {
        let took_ns = took.as_secs_f64() * 1e9;
        let before = f64::from_bits(self.ewma_ns.load(Ordering::Relaxed));
        let since = now_ns.saturating_sub(self.ewma_at_ns.swap(now_ns, Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a time in nanoseconds need not be exact to the nanosecond")]
        let keep = (-(since as f64) / EWMA_DECAY_NS).exp();
        let after = if took_ns > before { took_ns } else { before * keep + took_ns * (1.0 - keep) };
        // Two answers at once may lose one of both, which is of no consequence for an average.
        self.ewma_ns.store(after.to_bits(), Ordering::Relaxed);
    }

    /// How long a request is likely to take here, beside those that are under way.
    pub(super) fn expected_ns(&self) -> f64 {
        let known = f64::from_bits(self.ewma_ns.load(Ordering::Relaxed));
        let took = if known > 0.0 { known } else { EWMA_UNKNOWN_NS };
        took * f64::from(self.in_flight() + 1)
    }

    /// The share of its weight that it gets by now, from a tenth to one.
    pub(super) fn share(&self, slow_start: Option<Duration>, now_ns: u64) -> f64 {
        let since = self.since_ns.load(Ordering::Relaxed);
        let Some(slow_start) = slow_start.filter(|_| since != 0) else { return 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let part = now_ns.saturating_sub(since) as f64 / (slow_start.as_secs_f64() * 1e9);
        part.clamp(SLOW_START_LEAST, 1.0)
    }

    /// Notes that it is back, from where on it starts slowly.
    pub(super) fn returned(&self) {
        self.since_ns.store(SystemClock.steady_ns().max(1), Ordering::Relaxed);
    }

    /// Goes on from what was known of the same server before.
    pub(super) fn continue_from(&self, earlier: &Self) {
        self.health.continue_from(&earlier.health);
        self.ejection.continue_from(&earlier.ejection);
        for (own, known) in [
            (&self.ewma_ns, &earlier.ewma_ns),
            (&self.ewma_at_ns, &earlier.ewma_at_ns),
            (&self.since_ns, &earlier.since_ns),
        ] {
            own.store(known.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
