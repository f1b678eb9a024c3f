//! The members of one upstream, and the ticket for a request sent to one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntCounter;

use super::health::HealthState;
use super::peer::PeerTemplate;
use super::retry_budget::RetryBudget;
use super::select;
use super::trust::Trust;
use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::{Balance, Health, Protocol, Upstream};

/// The servers behind one name.
#[derive(Debug)]
pub(crate) struct Pool {
    pub name: Arc<str>,
    endpoints: Box<[Arc<Endpoint>]>,
    balance: Balance,
    turn: AtomicUsize,
    attempts_max: u32,
    budget: RetryBudget,
    retries: IntCounter,
    pub protocol: Protocol,
    /// Whom its servers must be, where they speak TLS.
    trust: Option<Trust>,
    /// How long to suggest that clients wait when nobody is fit.
    retry_after: Duration,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub address: SocketAddr,
    /// The address as text, for logs and metrics.
    pub label: Arc<str>,
    pub template: PeerTemplate,
    pub health: HealthState,
    in_flight: AtomicU32,
}

/// Which endpoints a request has been sent to already: one bit each, 64 at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried(u64);

/// One request's place at one endpoint. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub endpoint: Arc<Endpoint>,
}

impl Pool {
    /// Builds the pool; health checks are started apart from it.
    pub(crate) fn new(upstream: &Upstream, trust: Option<Trust>, metrics: &Metrics) -> Self {
        let endpoint = |address: &SocketAddr| {
            let label: Arc<str> = address.to_string().into();
            let gauge = metrics.endpoint_healthy(&upstream.name, &label);
            Arc::new(Endpoint {
                address: *address,
                template: PeerTemplate::new(*address, upstream, trust.as_ref()),
                health: HealthState::new(upstream.health.as_ref(), gauge),
                in_flight: AtomicU32::new(0),
                label,
            })
        };
        Self {
            name: Arc::clone(&upstream.name),
            endpoints: upstream.targets.iter().map(endpoint).collect(),
            balance: upstream.balance,
            turn: AtomicUsize::new(0),
            attempts_max: u32::from(upstream.retry.attempts),
            budget: RetryBudget::new(upstream.retry.budget.percent()),
            retries: metrics.retries(&upstream.name),
            protocol: upstream.protocol,
            trust,
            retry_after: upstream.health.as_ref().map_or(Duration::from_secs(1), recovery_time),
        }
    }

    /// Whom its servers must be, where they speak TLS.
    pub(crate) fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// Goes on from what was known of the same servers under an earlier configuration.
    pub(crate) fn continue_from(&self, earlier: &Pool) {
        for endpoint in &self.endpoints {
            if let Some(known) = earlier.endpoints.iter().find(|known| known.address == endpoint.address) {
                endpoint.health.continue_from(&known.health);
            }
        }
    }

    /// The servers, for health checks and the admin side.
    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Takes a place at a server that is fit and not in `tried`, and notes it there. `None` when there is none.
    pub(crate) fn pick(&self, tried: &mut Tried) -> Option<Ticket> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let index = match self.balance {
            Balance::RoundRobin => select::round_robin(&self.endpoints, turn, *tried),
            Balance::LeastRequests => select::least_requests(&self.endpoints, turn, *tried),
        }?;
        let endpoint = Arc::clone(self.endpoints.get(index)?);
        tried.insert(index);
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { endpoint })
    }

    /// Notes a request, which pays for a share of a retry.
    pub(crate) fn count_request(&self) {
        self.budget.deposit();
    }

    /// Whether one more attempt is allowed after `attempts`; if so it is paid for.
    pub(crate) fn may_retry(&self, attempts: u32, tried: Tried) -> bool {
        let allowed = attempts < self.attempts_max && self.somebody_left(tried) && self.budget.withdraw();
        if allowed {
            self.retries.inc();
        }
        allowed
    }

    /// Lets a request go to the same servers again: nobody had seen it.
    pub(crate) fn forget_tried(&self, tried: &mut Tried) {
        if !self.somebody_left(*tried) {
            *tried = Tried::default();
        }
    }

    fn somebody_left(&self, tried: Tried) -> bool {
        self.endpoints.iter().enumerate().any(|(index, endpoint)| endpoint.is_fit() && !tried.contains(index))
    }

    /// When it makes sense to come back after nobody was fit.
    pub(crate) fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

/// Two checks in a row bring a server back, so a client need not come earlier.
fn recovery_time(health: &Health) -> Duration {
    health.every.duration() * 2
}

impl Endpoint {
    /// Whether it gets requests.
    pub(crate) fn is_fit(&self) -> bool {
        self.health.is_healthy()
    }

    /// Requests it is working on for this gateway.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Tried {
    pub(crate) fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pool(balance: &str) -> Pool {
        let text = format!(
            "version: 1\nlisteners: {{ http: {{ bind: 127.0.0.1:0 }} }}\nupstreams:\n  api: {{ targets: [127.0.0.1:1, \
             127.0.0.1:2, 127.0.0.1:3], balance: {balance}, health: {{ http: /, down_after: 1 }}, retry: {{ attempts: 3 }} }}\n"
        );
        let config = config::parse("test", &text).expect("a sound configuration");
        Pool::new(&config.upstreams[0], None, &Metrics::new().expect("names are unique"))
    }

    fn ports(pool: &Pool, count: usize) -> Vec<u16> {
        (0..count).map(|_| pool.pick(&mut Tried::default()).expect("one is fit").endpoint.address.port()).collect()
    }

    #[test]
    fn round_robin_goes_round_and_skips_the_unfit() {
        let pool = pool("round_robin");
        assert_eq!(ports(&pool, 4), [1, 2, 3, 1]);
        pool.endpoints[1].health.report(false);
        let picked = ports(&pool, 6);
        assert!(!picked.contains(&2) && picked.contains(&1) && picked.contains(&3), "{picked:?}");
    }

    #[test]
    fn least_requests_prefers_the_idle_and_gives_places_back() {
        let pool = pool("least_requests");
        let held: Vec<_> = (0..3).filter_map(|_| pool.pick(&mut Tried::default())).collect();
        let mut taken: Vec<_> = held.iter().map(|ticket| ticket.endpoint.address.port()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3], "each idle one once");
        let free = held[1].endpoint.address.port();
        let kept: Vec<_> = held.into_iter().filter(|ticket| ticket.endpoint.address.port() != free).collect();
        assert_eq!(ports(&pool, 3), [free; 3], "the place was given back");
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn a_retry_goes_elsewhere_and_ends() {
        let pool = pool("round_robin");
        let mut tried = Tried::default();
        let mut seen = Vec::new();
        let mut attempts = 0;
        while let Some(ticket) = pool.pick(&mut tried) {
            attempts += 1;
            seen.push(ticket.endpoint.address.port());
            if !pool.may_retry(attempts, tried) {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 3]);
        assert!(pool.pick(&mut tried).is_none(), "nobody is left");
    }
}
