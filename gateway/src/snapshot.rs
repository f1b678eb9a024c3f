//! Snapshot: what a configuration became, as one value that a request holds from beginning to end.
//!
//! For: config → plan, pools, key stores. May touch: the files and secrets that the configuration names.
//! Promises: building has no effect outside; `start` sets the background work going, and it ends when the snapshot is gone.
//! A reload replaces the whole of it by one pointer. What is the same in both configurations is carried over as it is:
//! limits with what was spent, key sets with what was verified, pools with who is fit. Read next: `stages/plan.rs`.

use std::sync::Arc;
use std::time::Duration;

use common::settings::{At, Mistake};

use crate::base::flood::FloodLimits;
use crate::base::limiter::{CalendarMeter, ConcurrencyMeter, Rate, RateMeter, Stocks};
use crate::base::telemetry::metrics::Metrics;
use crate::config::Config;
use crate::config::checked::{self, Does, Leniency, LimitHeader, Measure, Server};
use crate::route::path::Parameters;
use crate::route::table::{Selector, Table};
use crate::stages::admission::access::Networks;
use crate::stages::admission::address::Addresses;
use crate::stages::admission::cors::Cors;
use crate::stages::admission::sanity::HeadLimits;
use crate::stages::auth::authenticate::Scheme;
use crate::stages::auth::build::{self, Workshop};
use crate::stages::auth::feed::{self, Feed};
use crate::stages::auth::jwks;
use crate::stages::auth::revocations::Revocations;
use crate::stages::dispatch::answer::Answer;
use crate::stages::dispatch::mirror::Mirror;
use crate::stages::dispatch::split::{Side, Split};
use crate::stages::egress;
use crate::stages::egress::security::Security;
use crate::stages::limit::{Limit, Meter, Shared};
use crate::stages::plan::{BodyPace, LimitHeaders, Plan, Route};
use crate::store::{self, Blueprint, Store, Vault};
use crate::upstream::discover;
use crate::upstream::health::active::Checker;
use crate::upstream::pool::Pool;
use crate::upstream::trust::Trust;

/// One configuration, ready to serve.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub config: Config,
    pub plan: Plan,
    pub connection: ConnectionSettings,
    /// In the order of the configuration, as are the two below.
    pools: Vec<Arc<Pool>>,
    schemes: Vec<Arc<Scheme>>,
    limits: Vec<Arc<Limit>>,
    store: Option<Arc<Store>>,
    feed: Option<Arc<Feed>>,
    /// Where certificates that are ordered are kept, each place once.
    vaults: Vec<Arc<Vault>>,
}

/// What is set on every connection that carries a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionSettings {
    pub keepalive_seconds: u64,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
    pub flood: FloodLimits,
}

/// Building, with what is wrong gathered on the way.
struct Builder<'a> {
    metrics: &'a Arc<Metrics>,
    client: &'a reqwest::Client,
    previous: Option<&'a Snapshot>,
    /// Whether the claims that limits and rules ask for are the same as before.
    keeps_claims: bool,
    /// Whether the store is.
    keeps_store: bool,
    mistakes: Vec<Mistake>,
}

impl Snapshot {
    /// Builds it, with what can be carried over from `previous`.
    ///
    /// # Errors
    /// Every file or secret that cannot be used, at its place in the configuration.
    pub(crate) fn build(
        config: Config,
        metrics: &Arc<Metrics>,
        client: &reqwest::Client,
        revocations: &Arc<Revocations>,
        previous: Option<&Snapshot>,
    ) -> Result<Self, Vec<Mistake>> {
        let kept = config.kept_claims();
        let mut builder = Builder {
            metrics,
            client,
            previous,
            keeps_claims: previous.is_some_and(|previous| previous.config.kept_claims() == kept),
            keeps_store: false,
            mistakes: Vec::new(),
        };
        let pools: Vec<_> = config.upstreams.iter().filter_map(|upstream| builder.pool(upstream)).collect();
        let store = config.redis.as_ref().and_then(|redis| builder.store(redis));
        let limits: Vec<_> = config.limits.iter().map(|limit| builder.limit(limit, store.as_ref())).collect();
        builder.keeps_store = previous.is_some_and(|previous| match (&previous.store, &store) {
            (Some(known), Some(store)) => Arc::ptr_eq(known, store),
            (None, None) => true,
            _ => false,
        });
        let workshop = Workshop { metrics, client, store: store.as_ref(), kept };
        let schemes: Vec<_> = config.schemes.iter().filter_map(|scheme| builder.scheme(scheme, &workshop)).collect();
        let feed = config.revocations.as_ref().and_then(|feed| builder.feed(feed, revocations));
        if !builder.mistakes.is_empty() {
            return Err(builder.mistakes);
        }
        let vaults = vaults_of(&config, store.as_ref(), previous);
        let routes = config.routes.iter().map(|route| {
            let selector = Selector { host: route.host.as_ref(), path: &route.path, methods: &route.methods };
            (selector, Arc::new(route_of(route, &config, &schemes, &limits, &pools, metrics)))
        });
        Ok(Self {
            plan: plan_of(&config, Table::build(routes), metrics, revocations),
            connection: ConnectionSettings {
                keepalive_seconds: config.server.keepalive.duration().as_secs().max(1),
                body_timeout: config.server.body_timeout.duration(),
                write_timeout: config.server.write_timeout.duration(),
                flood: FloodLimits {
                    connections_per_second: config.server.flood_guard.connections_per_second,
                    requests_per_second: config.server.flood_guard.requests_per_second,
                },
            },
            config,
            pools,
            schemes,
            limits,
            store,
            feed,
            vaults,
        })
    }

    /// Sets health checks and fetching of key sets going, for what is not in `previous` and so runs already.
    pub(crate) fn start(&self, previous: Option<&Snapshot>) {
        for pool in &self.pools {
            let runs = previous.is_some_and(|previous| previous.pools.iter().any(|known| Arc::ptr_eq(known, pool)));
            if !runs {
                pool.start_checks();
                discover::follow(pool);
            }
        }
        if let Some(store) = &self.store
            && store::keep(store)
        {
            feed::follow_store(store, &self.plan.revocations, self.plan.metrics.auth.revocations.clone());
        }
        if let Some(feed) = &self.feed
            && !previous.is_some_and(|previous| previous.feed.as_ref().is_some_and(|known| Arc::ptr_eq(known, feed)))
        {
            feed::follow(feed);
        }
        for scheme in &self.schemes {
            let runs =
                previous.is_some_and(|previous| previous.schemes.iter().any(|known| Arc::ptr_eq(known, scheme)));
            if let (Some(store), false) = (scheme.key_store(), runs) {
                jwks::keep_fresh(store);
            }
        }
    }

    /// Takes what its successor does not know off the metrics.
    pub(crate) fn retire(&self, successor: &Snapshot) {
        for pool in &self.pools {
            for endpoint in
                pool.endpoints().into_iter().filter(|endpoint| !successor.knows(&pool.name, &endpoint.label))
            {
                self.plan.metrics.forget_endpoint(&pool.name, &endpoint.label);
            }
        }
    }

    fn knows(&self, upstream: &str, endpoint: &str) -> bool {
        let mut pools = self.pools.iter().filter(|pool| *pool.name == *upstream);
        pools.any(|pool| pool.endpoints().iter().any(|known| *known.label == *endpoint))
    }

    /// The store that gateways share, where there is one.
    pub(crate) fn store(&self) -> Option<&Arc<Store>> {
        self.store.as_ref()
    }

    /// Where certificates that are ordered are kept.
    pub(crate) fn vaults(&self) -> &[Arc<Vault>] {
        &self.vaults
    }

    /// The place of one order.
    pub(crate) fn vault(&self, order: &checked::Acme) -> Option<&Arc<Vault>> {
        self.vaults.iter().find(|vault| vault.is_at(&order.storage, self.store.as_ref()))
    }

    /// Whether every key set and the feed of withdrawals were heard at least once, so that every token can be judged.
    pub(crate) fn can_judge(&self) -> bool {
        (self.feed.is_none() || self.plan.revocations.was_heard())
            && self.schemes.iter().filter_map(|scheme| scheme.key_store()).all(|store| store.is_ready())
    }
}

impl Builder<'_> {
    /// The pool of an upstream: the same one when nothing changed and nothing of it is in a file, else a new one that knows
    /// what was known.
    fn pool(&mut self, upstream: &checked::Upstream) -> Option<Arc<Pool>> {
        let known = self.previous.and_then(|previous| {
            let position = previous.config.upstreams.iter().position(|known| known.name == upstream.name)?;
            Some((previous.config.upstreams.get(position)?, previous.pools.get(position)?))
        });
        let with_file = upstream.tls.as_ref().is_some_and(|tls| tls.ca.is_some() || tls.certificate.is_some());
        if let Some((settings, pool)) = known
            && settings == upstream
            && !with_file
        {
            return Some(Arc::clone(pool));
        }
        let trust = upstream.tls.as_ref().map(Trust::load).transpose();
        let trust = trust.map_err(|mistake| self.mistakes.push(mistake)).ok()?;
        // They are read again and again; one that cannot be read now is rather a mistake.
        discover::check(&upstream.source).map_err(|mistake| self.mistakes.push(mistake)).ok()?;
        let checker = upstream.health.clone().map(|health| Checker::new(health, self.client.clone()));
        let pool = Pool::new(upstream, trust, checker, self.metrics);
        if let Some((_, earlier)) = known {
            pool.continue_from(earlier);
        }
        Some(Arc::new(pool))
    }

    /// The store that gateways share: the same one when it is reached in the same way.
    fn store(&mut self, redis: &checked::Redis) -> Option<Arc<Store>> {
        let password = match &redis.password {
            None => None,
            Some(reference) => {
                Some(self.noted(reference, reference.value.resolve().map_err(|error| error.to_string()))?)
            }
        };
        let authorities = match &redis.ca {
            None => None,
            Some(file) => {
                let read = std::fs::read(&file.value).map_err(|error| format!("{}: {error}", file.value.display()));
                Some(self.noted(file, read)?)
            }
        };
        let blueprint = Blueprint::new(redis, password, authorities);
        if let Some(file) = &redis.ca {
            self.noted(file, blueprint.check().map_err(|error| format!("{}: {error}", file.value.display())))?;
        }
        let known = self.previous.and_then(|previous| previous.store.as_ref());
        if let Some(known) = known.filter(|known| known.is_like(redis, &blueprint)) {
            return Some(Arc::clone(known));
        }
        Some(Arc::new(Store::new(redis.clone(), blueprint, self.metrics.store.clone())))
    }

    /// The feed of withdrawals: the same one when nothing changed and its secret is not in a file.
    fn feed(&mut self, settings: &checked::Revocations, revocations: &Arc<Revocations>) -> Option<Arc<Feed>> {
        let known =
            self.previous.and_then(|previous| Some((previous.config.revocations.as_ref()?, previous.feed.as_ref()?)));
        if let Some((_, feed)) = known.filter(|(known, _)| *known == settings && settings.secret.is_none()) {
            return Some(Arc::clone(feed));
        }
        let secret = settings.secret.as_ref().map(build::secret).transpose();
        let secret = secret.map_err(|mistake| self.mistakes.push(mistake)).ok()?;
        let gauges = (self.metrics.auth.revocation_feed_up.clone(), self.metrics.auth.revocations.clone());
        Some(Arc::new(Feed::new(settings, secret, self.client.clone(), revocations, gauges)))
    }

    /// A limit, with what was spent when it is the same as before: a reload is no way round it.
    fn limit(&self, limit: &checked::Limit, store: Option<&Arc<Store>>) -> Arc<Limit> {
        let known = self.previous.and_then(|previous| {
            let position = previous.config.limits.iter().position(|known| known == limit)?;
            previous.limits.get(position)
        });
        let same_store = |known: &&Arc<Limit>| {
            known.shared.as_ref().is_none_or(|shared| store.is_some_and(|store| Arc::ptr_eq(store, &shared.store)))
        };
        known.filter(same_store).map_or_else(|| Arc::new(limit_of(limit, store)), Arc::clone)
    }

    /// A scheme: the same one when nothing changed and everything it works with comes over the network. What comes from a
    /// file or a secret is read anew, because that may have changed.
    fn scheme(&mut self, scheme: &checked::Scheme, workshop: &Workshop<'_>) -> Option<Arc<Scheme>> {
        let known = self.previous.and_then(|previous| {
            let position = previous.config.schemes.iter().position(|known| known == scheme)?;
            previous.schemes.get(position)
        });
        match known {
            // Claims that limits ask for are picked when a token is verified.
            Some(known) if scheme.kind.is_without_files() && self.keeps_claims && self.keeps_store => {
                Some(Arc::clone(known))
            }
            _ => workshop.scheme(scheme).map_err(|mistake| self.mistakes.push(mistake)).ok().map(Arc::new),
        }
    }

    fn noted<T, P>(&mut self, at: &At<P>, outcome: Result<T, String>) -> Option<T> {
        let note = |message| Mistake { position: at.position, path: at.path.clone(), message };
        outcome.map_err(|message| self.mistakes.push(note(message))).ok()
    }
}

/// The places of all orders: the same ones as before where they are the same.
fn vaults_of(config: &Config, store: Option<&Arc<Store>>, previous: Option<&Snapshot>) -> Vec<Arc<Vault>> {
    let mut vaults: Vec<Arc<Vault>> = Vec::new();
    for order in config.orders() {
        let here = |vault: &&Arc<Vault>| vault.is_at(&order.storage, store);
        if vaults.iter().any(|vault| here(&vault)) {
            continue;
        }
        let known = previous.and_then(|previous| previous.vaults.iter().find(here)).cloned();
        vaults.push(known.unwrap_or_else(|| Arc::new(Vault::new(order.storage.clone(), store.cloned()))));
    }
    vaults
}

fn plan_of(
    config: &Config,
    routes: Table<Arc<Route>>,
    metrics: &Arc<Metrics>,
    revocations: &Arc<Revocations>,
) -> Plan {
    Plan {
        routes,
        addresses: Addresses {
            trusted: config.client_ip.trusted_proxies.iter().map(|network| network.0).collect(),
            ipv6_prefix: config.client_ip.ipv6_prefix,
        },
        denied: Networks::new(config.client_ip.deny.iter().map(|network| network.0)),
        limits: head_limits(&config.server),
        body_pace: BodyPace {
            grace: config.server.body_timeout.duration(),
            bytes_per_second_min: config.server.body_rate_min.bytes(),
        },
        unrouted: metrics.route("-"),
        metrics: Arc::clone(metrics),
        revocations: Arc::clone(revocations),
        hidden: config.hide_headers.clone().into(),
        security: config.security_headers.as_ref().map(Security::new),
    }
}

fn head_limits(server: &Server) -> HeadLimits {
    HeadLimits {
        header_bytes_max: usize::try_from(server.headers_max.bytes()).unwrap_or(usize::MAX),
        header_count_max: server.header_count_max as usize,
        target_bytes_max: usize::try_from(server.target_max.bytes()).unwrap_or(usize::MAX),
        parameters: match server.path_parameters {
            Leniency::Refuse => Parameters::Refuse,
            Leniency::Allow => Parameters::Allow,
        },
        underscores: server.underscore_headers,
    }
}

fn limit_of(limit: &checked::Limit, store: Option<&Arc<Store>>) -> Limit {
    let shared = limit.shared.zip(store).map(|(shared, store)| Shared {
        store: Arc::clone(store),
        down: shared.store_down,
        batch: (shared.batch > 1).then(|| (shared.batch.into(), Stocks::new(limit.keys_max))),
    });
    let meter = match limit.measure {
        Measure::Rate { rate, burst } => {
            let rate = Rate::new(rate.count, rate.period, burst);
            let rate = if shared.is_some() { rate.in_microseconds() } else { rate };
            Meter::Rate(RateMeter::new(rate, limit.keys_max))
        }
        Measure::Quota(quota) => {
            Meter::Calendar(CalendarMeter::new(quota.calendar, quota.count.into(), limit.keys_max))
        }
        Measure::Concurrent(places) => Meter::Concurrency(Arc::new(ConcurrencyMeter::new(places, limit.keys_max))),
    };
    Limit {
        name: Arc::clone(&limit.name),
        by: limit.by.clone(),
        meter,
        cost: u64::from(limit.cost).max(1),
        cost_from: limit.cost_from.clone(),
        shared,
        shadow: limit.shadow,
    }
}

fn route_of(
    route: &checked::Route,
    config: &Config,
    schemes: &[Arc<Scheme>],
    limits: &[Arc<Limit>],
    pools: &[Arc<Pool>],
    metrics: &Metrics,
) -> Route {
    // Positions were resolved when the configuration was checked, so each of them is there.
    let own_limits = || route.limits.iter().map(|position| Arc::clone(&limits[*position]));
    let told = |header| config.server.limit_headers.contains(&header);
    let own_schemes: Vec<_> = route.schemes.iter().map(|position| Arc::clone(&schemes[*position])).collect();
    Route {
        id: Arc::clone(&route.id),
        allow_from: (!route.allow_from.is_empty()).then(|| Networks::new(route.allow_from.iter().copied())),
        cors: route.cors.map(|position| Cors::new(&config.cors[position])),
        bearers: build::bearers(&own_schemes),
        hidden_query: own_schemes.iter().filter_map(|scheme| scheme.query_parameter().map(Box::from)).collect(),
        underscores: config.server.underscore_headers,
        takes_protocol_token: own_schemes.iter().any(|scheme| scheme.takes_protocol_token()),
        copied: own_schemes.iter().flat_map(|scheme| scheme.copied().iter().cloned()).collect(),
        require: route.require.clone(),
        owner: route.owner.clone(),
        client_certificate: route.client_certificate,
        shadow_auth: route.shadow_auth,
        shadow_require: route.shadow_require,
        limit_policy: egress::limits::policy(route.limits.iter().map(|position| &config.limits[*position])),
        limit_headers: LimitHeaders { standard: told(LimitHeader::Standard), legacy: told(LimitHeader::Legacy) },
        limits: own_limits().collect(),
        limits_by_address: own_limits().filter(|limit| !limit.needs_identity()).collect(),
        answer: Answer::of(&route.does),
        split: match &route.does {
            Does::Forward(split) => Some(split_of(split, &route.id, pools, metrics)),
            Does::Respond(_) | Does::Redirect(_) => None,
        },
        mirror: route.mirror.map(|mirror| {
            Arc::new(Mirror::new(mirror, Arc::clone(&pools[mirror.upstream]), metrics.mirror(&route.id)))
        }),
        rewrite: route.rewrite.clone(),
        request_headers: route.request_headers.clone(),
        response_headers: route.response_headers.clone(),
        compress: route.compress.clone().map(Arc::new),
        schemes: own_schemes.into(),
        timeout: route.timeout,
        deadline: route.deadline,
        websocket_idle: route.websocket_idle,
        sse_heartbeat: route.sse_heartbeat,
        body_bytes_max: route.body_bytes_max,
        log: route.log,
        metrics: metrics.route(&route.id),
    }
}

fn split_of(split: &checked::Split, route: &str, pools: &[Arc<Pool>], metrics: &Metrics) -> Split {
    let sides = split.sides.iter().map(|side| {
        // Resolved when the configuration was checked, as above.
        let pool = &pools[side.upstream];
        Side::new(Arc::clone(pool), side.weight, metrics.requests_to(route, &pool.name))
    });
    Split::new(sides.collect(), split.by.clone())
}
