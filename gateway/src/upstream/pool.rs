//! Pool: the servers of one upstream, who of them is picked, and how often a request may be tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use common::backoff;
use common::clock::{Clock as _, SystemClock};
use prometheus::IntCounter;

use super::ejection::Ejection;
use super::endpoint::{Endpoint, Ticket};
use super::gate::{Crowded, Gate, Passage};
use super::health::HealthState;
use super::health::active::Checker;
use super::members::Members;
use super::peer::PeerTemplate;
use super::retry_budget::RetryBudget;
use super::select::{self, Choice};
use super::trust::Trust;
use crate::base::telemetry::metrics::Metrics;
use crate::config::check_upstreams::ATTEMPTS_MAX;
use crate::config::checked::{Balance, HashBy, Source, Sticky, Target, Upstream};

/// How many times as long as the first wait before another attempt the longest one may be.
const BACKOFF_FACTOR_MAX: u32 = 1024;

/// The servers behind one name.
#[derive(Debug)]
pub(crate) struct Pool {
    pub name: Arc<str>,
    settings: Upstream,
    /// Whom its servers must be, where they speak TLS.
    trust: Option<Trust>,
    members: ArcSwap<Members>,
    turn: AtomicUsize,
    gate: Gate,
    budget: RetryBudget,
    retries: IntCounter,
    /// What checks its servers, once it is started.
    checker: Option<Checker>,
    metrics: Arc<Metrics>,
}

/// Which endpoints a request has been sent to already, by their hashes; as many as there may be attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    hashes: [u64; ATTEMPTS_MAX as usize],
    count: usize,
}

/// What a request brings along for the choice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// The hash of its key, where the upstream goes by one.
    pub key: Option<u64>,
    /// The hash of the endpoint that it had before.
    pub sticky: Option<u64>,
}

impl Pool {
    /// Builds the pool, with the servers that are known now; checks and discovery are started apart from it.
    pub(crate) fn new(
        settings: &Upstream,
        trust: Option<Trust>,
        checker: Option<Checker>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let pool = Self {
            name: Arc::clone(&settings.name),
            settings: settings.clone(),
            trust,
            members: ArcSwap::from_pointee(Members::new(Vec::new())),
            turn: AtomicUsize::new(0),
            gate: Gate::new(&settings.breaker),
            budget: RetryBudget::new(settings.retry.budget.percent()),
            retries: metrics.retries(&settings.name),
            checker,
            metrics: Arc::clone(metrics),
        };
        if let Source::Fixed(targets) = &settings.source {
            let endpoints = targets.iter().filter_map(|target| pool.endpoint(target, 0)).map(Arc::new).collect();
            pool.members.store(Arc::new(Members::new(endpoints)));
        }
        pool
    }

    fn endpoint(&self, target: &Target, since_ns: u64) -> Option<Endpoint> {
        let label = target.at.to_string();
        let template = PeerTemplate::new(&target.at, &self.settings, self.trust.as_ref());
        let template = template.map_err(
            |error| tracing::error!(upstream = %self.name, endpoint = label, %error, "endpoint cannot be used"),
        );
        let health =
            HealthState::new(self.settings.health.as_ref(), self.metrics.endpoint_healthy(&self.name, &label));
        let ejection = Ejection::new(self.settings.eject.as_ref(), self.metrics.endpoint_ejected(&self.name, &label));
        Some(Endpoint::new(target.at.clone(), target.weight, template.ok()?, health, ejection, since_ns))
    }

    /// Where its servers are known from.
    pub(crate) fn source(&self) -> &Source {
        &self.settings.source
    }

    /// What `hash` goes by.
    pub(crate) fn hash_by(&self) -> Option<&HashBy> {
        self.settings.hash_by.as_ref()
    }

    /// The cookie by which clients come back.
    pub(crate) fn sticky(&self) -> Option<&Sticky> {
        self.settings.sticky.as_ref()
    }

    /// How long one attempt may take until the first byte, where another may follow.
    pub(crate) fn per_try(&self) -> Option<Duration> {
        self.settings.retry.per_try.map(common::settings::Millis::duration)
    }

    /// How long to wait before the attempt after so many: doubled each time, less up to a half.
    pub(crate) fn backoff(&self, attempts: u32) -> Duration {
        backoff::spread(self.backoff_max(attempts))
    }

    /// The longest that wait may be.
    pub(crate) fn backoff_max(&self, attempts: u32) -> Duration {
        let first = self.settings.retry.backoff.duration();
        backoff::wait_after(attempts, first, first.saturating_mul(BACKOFF_FACTOR_MAX))
    }

    /// Whom its servers must be, where they speak TLS.
    pub(crate) fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// What it is made from.
    pub(crate) fn settings(&self) -> &Upstream {
        &self.settings
    }

    /// Goes on from what was known of the same servers under an earlier configuration.
    pub(crate) fn continue_from(&self, earlier: &Pool) {
        // Where the servers are looked up, those of before serve until the first look.
        if !matches!(self.settings.source, Source::Fixed(_)) && self.settings.source == earlier.settings.source {
            let targets = earlier.members.load();
            let targets =
                targets.endpoints.iter().map(|known| Target { at: known.place.clone(), weight: known.weight });
            let endpoints = targets.filter_map(|target| self.endpoint(&target, 0)).map(Arc::new).collect();
            self.members.store(Arc::new(Members::new(endpoints)));
        }
        let known = earlier.members.load();
        for endpoint in &self.members.load().endpoints {
            if let Some(known) = known.endpoints.iter().find(|known| known.place == endpoint.place) {
                endpoint.continue_from(known);
            }
        }
    }

    /// Starts the checks of the servers that are known.
    pub(crate) fn start_checks(&self) {
        if let Some(checker) = &self.checker {
            for endpoint in &self.members.load().endpoints {
                checker.start(self, endpoint);
            }
        }
    }

    /// Takes in where its servers are now. Those that were there before keep what is known of them; new ones start slowly,
    /// unless nobody was known at all.
    pub(crate) fn update(&self, targets: &[Target]) {
        let before = self.members.load_full();
        let since_ns = if before.endpoints.is_empty() { 0 } else { SystemClock.steady_ns().max(1) };
        let mut endpoints = Vec::with_capacity(targets.len());
        let mut fresh = Vec::new();
        for target in targets {
            let known =
                before.endpoints.iter().find(|known| known.place == target.at && known.weight == target.weight);
            if let Some(known) = known {
                endpoints.push(Arc::clone(known));
            } else if let Some(endpoint) = self.endpoint(target, since_ns) {
                let endpoint = Arc::new(endpoint);
                if let Some(known) = before.endpoints.iter().find(|known| known.place == target.at) {
                    endpoint.continue_from(known);
                }
                fresh.push(Arc::clone(&endpoint));
                endpoints.push(endpoint);
            }
        }
        let is_gone = |known: &&Arc<Endpoint>| !targets.iter().any(|target| target.at == known.place);
        let gone: Vec<_> = before.endpoints.iter().filter(is_gone).map(|known| Arc::clone(&known.label)).collect();
        if fresh.is_empty() && gone.is_empty() && endpoints.len() == before.endpoints.len() {
            return;
        }
        tracing::info!(upstream = %self.name, servers = endpoints.len(), new = fresh.len(), gone = gone.len(), "servers changed");
        self.members.store(Arc::new(Members::new(endpoints)));
        for label in gone {
            self.metrics.forget_endpoint(&self.name, &label);
        }
        if let Some(checker) = &self.checker {
            for endpoint in &fresh {
                checker.start(self, endpoint);
            }
        }
    }

    /// The servers, for the admin side.
    pub(crate) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.members.load().endpoints.to_vec()
    }

    /// A place for one more request, perhaps after a wait.
    ///
    /// # Errors
    /// When there is none and too many wait, or it took too long.
    pub(crate) async fn pass(&self) -> Result<Passage, Crowded> {
        self.gate.pass().await
    }

    /// Takes a place at a server that is fit and not in `tried`, and notes it there. `None` when there is none.
    pub(crate) fn pick(&self, tried: &mut Tried, wish: Wish) -> Option<Ticket> {
        let members = self.members.load();
        let now_ns = SystemClock.steady_ns();
        let mut choice = Choice {
            members: &members,
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            tried: *tried,
            slow_start: self.settings.slow_start,
            now_ns,
            panic: self.panics(&members, now_ns),
        };
        // Somebody may have taken the one try at a server that was left out; then the next choice is another.
        for _ in 0..=members.endpoints.len() {
            let endpoint = self.choose(&choice, wish)?;
            tried.insert(endpoint.hash);
            let ticket = if choice.panic { Some(endpoint.ticket_anyway()) } else { endpoint.ticket(now_ns) };
            if ticket.is_some() {
                return ticket;
            }
            choice.tried = *tried;
        }
        None
    }

    fn choose<'m>(&self, choice: &Choice<'m>, wish: Wish) -> Option<&'m Arc<Endpoint>> {
        let kept = wish.sticky.and_then(|hash| select::with_hash(choice, hash));
        kept.or_else(|| match self.settings.balance {
            Balance::RoundRobin => select::round_robin(choice),
            Balance::LeastRequests => select::least_requests(choice),
            Balance::PeakEwma => select::peak_ewma(choice),
            // Without a key all are alike.
            Balance::Hash => match wish.key {
                Some(key) => select::hashed(choice, key),
                None => select::round_robin(choice),
            },
        })
    }

    /// Whether so few are fit that it is rather a fault of those who judge.
    fn panics(&self, members: &Members, now_ns: u64) -> bool {
        let below = usize::from(self.settings.panic_below);
        if below == 0 {
            return false;
        }
        let fit = members.endpoints.iter().filter(|endpoint| endpoint.is_fit(now_ns)).count();
        fit * 100 < below * members.endpoints.len()
    }

    /// Notes a request, which pays for a share of a retry.
    pub(crate) fn count_request(&self) {
        self.budget.deposit();
    }

    /// Whether one more attempt is allowed after `attempts`; if so it is paid for.
    pub(crate) fn may_retry(&self, attempts: u32, tried: Tried) -> bool {
        let most = u32::from(self.settings.retry.attempts);
        let allowed = attempts < most && self.somebody_left(tried) && self.budget.withdraw();
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
        let now_ns = SystemClock.steady_ns();
        let members = self.members.load();
        members.endpoints.iter().any(|endpoint| endpoint.is_fit(now_ns) && !tried.contains(endpoint.hash))
    }

    /// Takes in how a request to one of its servers went.
    pub(crate) fn note_outcome(&self, endpoint: &Endpoint, well: bool) {
        if well {
            if endpoint.ejection.succeeded() {
                endpoint.returned();
                tracing::info!(upstream = %self.name, endpoint = %endpoint.label, "endpoint is well again");
            }
            return;
        }
        let may_go = |max_percent: u8| {
            let members = self.members.load();
            let out = members.endpoints.iter().filter(|endpoint| endpoint.ejection.is_out()).count();
            out == 0 || (out + 1) * 100 <= usize::from(max_percent) * members.endpoints.len()
        };
        if endpoint.ejection.failed(SystemClock.steady_ns(), may_go) {
            tracing::warn!(upstream = %self.name, endpoint = %endpoint.label, "endpoint fails requests and is left out");
        }
    }

    /// When it makes sense to come back after nobody was fit: two checks in a row bring a server back.
    pub(crate) fn retry_after(&self) -> Duration {
        self.settings.health.as_ref().map_or(Duration::from_secs(1), |health| health.every * 2)
    }
}

impl Tried {
    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.hashes.iter().take(self.count).any(|tried| *tried == hash)
    }

    fn insert(&mut self, hash: u64) {
        if let Some(place) = self.hashes.get_mut(self.count) {
            *place = hash;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests;
