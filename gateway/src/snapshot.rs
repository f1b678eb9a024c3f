//! Snapshot: what a configuration became, as one value that a request holds from beginning to end.
//!
//! For: config → plan, pools, key stores. May touch: the files and secrets that the configuration names.
//! Promises: building has no effect outside; `start` sets the background work going, and it ends when the snapshot is gone.
//! A reload replaces the whole of it by one pointer. What is the same in both configurations is carried over as it is:
//! limits with what was spent, key sets with what was verified, pools with who is fit. Read next: `stages/plan.rs`.

use std::sync::Arc;
use std::time::Duration;

use common::settings::{At, Mistake};

use crate::base::limiter::{LocalLimiter, Quota};
use crate::base::telemetry::metrics::Metrics;
use crate::config::Config;
use crate::config::checked::{self, Introspection, JwtKeys, Leniency, LimitKey, SchemeKind, Server};
use crate::route::path::Parameters;
use crate::route::table::{Selector, Table};
use crate::stages::admission::address::Addresses;
use crate::stages::admission::sanity::HeadLimits;
use crate::stages::auth::api_key::ApiKeyVerifier;
use crate::stages::auth::authenticate::{Scheme, Verifier};
use crate::stages::auth::jwks::{self, Key, KeyStore};
use crate::stages::auth::jwt::JwtVerifier;
use crate::stages::egress;
use crate::stages::plan::{Limit, Plan, Route};
use crate::upstream::health::active;
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
    client: reqwest::Client,
}

/// What is set on every connection that carries a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionSettings {
    pub keepalive_seconds: u64,
    pub body_timeout: Duration,
    pub write_timeout: Duration,
}

/// Building, with what is wrong gathered on the way.
struct Builder<'a> {
    metrics: &'a Arc<Metrics>,
    client: &'a reqwest::Client,
    previous: Option<&'a Snapshot>,
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
        previous: Option<&Snapshot>,
    ) -> Result<Self, Vec<Mistake>> {
        let mut builder = Builder { metrics, client, previous, mistakes: Vec::new() };
        let pools: Vec<_> = config.upstreams.iter().filter_map(|upstream| builder.pool(upstream)).collect();
        let limits: Vec<_> = config.limits.iter().map(|limit| builder.limit(limit)).collect();
        let schemes: Vec<_> = config.schemes.iter().filter_map(|scheme| builder.scheme(scheme)).collect();
        if !builder.mistakes.is_empty() {
            return Err(builder.mistakes);
        }
        let routes = config.routes.iter().map(|route| {
            let selector = Selector { host: route.host.as_ref(), path: &route.path, methods: &route.methods };
            (selector, Arc::new(route_of(route, &config.limits, &schemes, &limits, &pools, metrics)))
        });
        Ok(Self {
            plan: Plan {
                routes: Table::build(routes),
                addresses: Addresses {
                    trusted: config.client_ip.trusted_proxies.iter().map(|network| network.0).collect(),
                    ipv6_prefix: config.client_ip.ipv6_prefix,
                },
                limits: head_limits(&config.server),
                unrouted: metrics.route("-"),
                metrics: Arc::clone(metrics),
            },
            connection: ConnectionSettings {
                keepalive_seconds: config.server.keepalive.duration().as_secs().max(1),
                body_timeout: config.server.body_timeout.duration(),
                write_timeout: config.server.write_timeout.duration(),
            },
            config,
            pools,
            schemes,
            limits,
            client: client.clone(),
        })
    }

    /// Sets health checks and fetching of key sets going, for what is not in `previous` and so runs already.
    pub(crate) fn start(&self, previous: Option<&Snapshot>) {
        for (pool, upstream) in self.pools.iter().zip(&self.config.upstreams) {
            let runs = previous.is_some_and(|previous| previous.pools.iter().any(|known| Arc::ptr_eq(known, pool)));
            if let (Some(health), false) = (&upstream.health, runs) {
                active::start(pool, health, &self.client);
            }
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
            for endpoint in pool.endpoints().iter().filter(|endpoint| !successor.knows(&pool.name, &endpoint.label)) {
                self.plan.metrics.forget_endpoint(&pool.name, &endpoint.label);
            }
        }
    }

    fn knows(&self, upstream: &str, endpoint: &str) -> bool {
        let mut pools = self.pools.iter().filter(|pool| *pool.name == *upstream);
        pools.any(|pool| pool.endpoints().iter().any(|known| *known.label == *endpoint))
    }

    /// Whether every key set was fetched at least once, so that every token can be judged.
    pub(crate) fn can_judge(&self) -> bool {
        self.schemes.iter().filter_map(|scheme| scheme.key_store()).all(|store| store.is_ready())
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
        let with_file = upstream.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
        if let Some((settings, pool)) = known
            && settings == upstream
            && !with_file
        {
            return Some(Arc::clone(pool));
        }
        let trust = upstream.tls.as_ref().map(Trust::load).transpose();
        let trust = trust.map_err(|mistake| self.mistakes.push(mistake)).ok()?;
        let pool = Pool::new(upstream, trust, self.metrics);
        if let Some((_, earlier)) = known {
            pool.continue_from(earlier);
        }
        Some(Arc::new(pool))
    }

    /// A limit, with what was spent when it is the same as before: a reload is no way round it.
    fn limit(&self, limit: &checked::Limit) -> Arc<Limit> {
        let known = self.previous.and_then(|previous| {
            let position = previous.config.limits.iter().position(|known| known == limit)?;
            previous.limits.get(position)
        });
        known.map_or_else(|| Arc::new(limit_of(limit)), Arc::clone)
    }

    /// A scheme: the same one when nothing changed and everything it works with comes over the network. What comes from a
    /// file or a secret is read anew, because that may have changed.
    fn scheme(&mut self, scheme: &checked::Scheme) -> Option<Arc<Scheme>> {
        let known = self.previous.and_then(|previous| {
            let position = previous.config.schemes.iter().position(|known| known == scheme)?;
            previous.schemes.get(position)
        });
        match known {
            Some(known) if scheme.kind.is_without_files() => Some(Arc::clone(known)),
            _ => self.new_scheme(scheme).map(Arc::new),
        }
    }

    fn new_scheme(&mut self, scheme: &checked::Scheme) -> Option<Scheme> {
        let verifier = match &scheme.kind {
            SchemeKind::Jwt(jwt) => {
                let keys = self.keys(&scheme.name, &jwt.keys)?;
                Verifier::Jwt(JwtVerifier::new(jwt, keys))
            }
            SchemeKind::ApiKey { header, introspection } => {
                Verifier::ApiKey(self.api_keys(&scheme.name, header, introspection)?)
            }
        };
        Some(Scheme { name: Arc::clone(&scheme.name), verifier })
    }

    fn keys(&mut self, scheme: &Arc<str>, keys: &JwtKeys) -> Option<Arc<KeyStore>> {
        match keys {
            JwtKeys::Fetched(set) => {
                let fetches = self.metrics.key_set_fetches.clone();
                let store = KeyStore::fetched(Arc::clone(scheme), set.clone(), self.client.clone(), fetches);
                Some(Arc::new(store))
            }
            JwtKeys::File(file) => {
                let read = std::fs::read(&file.value).map_err(|error| error.to_string());
                let parsed = read.and_then(|json| jwks::parse(&json).map_err(|error| error.to_string()));
                let keys = self.noted(file, parsed.map_err(|error| format!("{}: {error}", file.value.display())))?;
                Some(Arc::new(KeyStore::fixed(keys)))
            }
            JwtKeys::Shared(reference) => {
                let secret = self.noted(reference, reference.value.resolve().map_err(|error| error.to_string()))?;
                Some(Arc::new(KeyStore::fixed(vec![Arc::new(Key::shared(secret.expose()))])))
            }
        }
    }

    fn api_keys(
        &mut self,
        scheme: &Arc<str>,
        header: &http::HeaderName,
        introspection: &Introspection,
    ) -> Option<ApiKeyVerifier> {
        let secret = match &introspection.secret {
            None => None,
            Some(reference) => {
                Some(self.noted(reference, reference.value.resolve().map_err(|error| error.to_string()))?)
            }
        };
        let lookups = self.metrics.key_lookups.clone();
        let client = self.client.clone();
        Some(ApiKeyVerifier::new(Arc::clone(scheme), header.clone(), introspection, secret, client, lookups))
    }

    fn noted<T, P>(&mut self, at: &At<P>, outcome: Result<T, String>) -> Option<T> {
        let note = |message| Mistake { position: at.position, path: at.path.clone(), message };
        outcome.map_err(|message| self.mistakes.push(note(message))).ok()
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
    }
}

fn limit_of(limit: &checked::Limit) -> Limit {
    let quota = Quota::new(limit.rate.count, limit.rate.period, limit.burst);
    Limit { name: Arc::clone(&limit.name), by: limit.by, limiter: LocalLimiter::new(quota, limit.keys_max) }
}

fn route_of(
    route: &checked::Route,
    settings: &[checked::Limit],
    schemes: &[Arc<Scheme>],
    limits: &[Arc<Limit>],
    pools: &[Arc<Pool>],
    metrics: &Metrics,
) -> Route {
    // Positions were resolved when the configuration was checked, so each of them is there.
    let named = |by_address: bool| -> Box<[Arc<Limit>]> {
        let chosen = route.limits.iter().map(|position| &limits[*position]);
        chosen.filter(|limit| (limit.by == LimitKey::ClientIp) == by_address).cloned().collect()
    };
    Route {
        id: Arc::clone(&route.id),
        schemes: route.schemes.iter().map(|position| Arc::clone(&schemes[*position])).collect(),
        require: route.require.clone().into(),
        limit_policy: egress::limits::policy(route.limits.iter().map(|position| &settings[*position])),
        limits_by_address: named(true),
        limits_by_identity: named(false),
        pool: Arc::clone(&pools[route.upstream]),
        timeout: route.timeout,
        websocket_idle: route.websocket_idle,
        body_bytes_max: route.body_bytes_max,
        log: route.log,
        metrics: metrics.route(&route.id),
    }
}
