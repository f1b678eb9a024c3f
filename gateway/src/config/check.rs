//! Check: what must hold between keys.
//!
//! For: raw → checked. May touch: raw sections. Promises: every broken rule is reported where the operator wrote it, and
//! checking goes on behind it. Read next: `checked.rs`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use common::settings::{At, Decoder, Named, Position};

use super::check_limits::{check_limit, check_redis};
use super::check_schemes::{check_require, check_route_auth, check_scheme};
use super::checked::{CertificateFiles, Config, Limit, Listener, ListenerKind, Route, Upstream};
use super::raw::revocations::Revocations;
use super::raw::routes::Watched;
use super::raw::server::Server;
use super::raw::upstreams::Protocol;
use super::raw::{self, listeners, routes};
use super::values::{Address, HostPattern, PathPattern};

/// More often than that nobody needs to ask what was withdrawn.
const REVOCATIONS_EVERY_MIN: Duration = Duration::from_millis(50);

/// Turns the file into a `Config`; what is wrong goes to `decoder`.
#[expect(clippy::unnecessary_wraps, reason = "`settings::load` takes checks that may end without a value")]
pub(super) fn check(file: raw::File, decoder: &mut Decoder) -> Option<Config> {
    check_version(&file, decoder);
    check_server(&file.server, decoder);
    if let Err(error) = common::telemetry::check_filter(&file.log.filter.value) {
        decoder.mistake_at(&file.log.filter, error.to_string());
    }
    let names = Names::of(&file);
    let listeners = check_listeners(&file.listeners, decoder);
    let upstreams = file.upstreams.items.into_iter().filter_map(|item| check_upstream(item, decoder)).collect();
    let redis = check_redis(file.stores.redis, decoder);
    let store = redis.is_some();
    let revocations = check_revocations(file.revocations, decoder);
    let schemes = file.auth.items.into_iter().filter_map(|item| check_scheme(item, store, decoder)).collect();
    let limits = file.limits.items.into_iter();
    let limits: Vec<Limit> = limits.filter_map(|item| check_limit(item, store, decoder)).collect();
    let routes = check_routes(file.routes, &names, &limits, decoder);
    if file.client_ip.ipv6_prefix > 128 {
        decoder.inside("client_ip.ipv6_prefix", |decoder| {
            decoder.mistake(Position::START, "a prefix length is 0 to 128");
        });
    }
    Some(Config {
        environment: file.environment,
        log: file.log,
        server: file.server,
        admin: file.admin.map(|admin| admin.bind.0),
        client_ip: file.client_ip,
        listeners,
        upstreams,
        schemes,
        revocations,
        redis,
        limits,
        routes,
    })
}

/// What routes may refer to, by name, to the position it will have.
struct Names {
    upstreams: HashMap<String, usize>,
    schemes: HashMap<String, usize>,
    limits: HashMap<String, usize>,
    /// Upstreams that speak HTTP/2.
    http2_upstreams: Vec<String>,
}

impl Names {
    fn of(file: &raw::File) -> Self {
        fn positions<T>(named: &Named<T>) -> HashMap<String, usize> {
            named.names().enumerate().map(|(position, name)| (name.to_owned(), position)).collect()
        }
        Self {
            upstreams: positions(&file.upstreams),
            schemes: positions(&file.auth),
            limits: positions(&file.limits),
            http2_upstreams: file
                .upstreams
                .items
                .iter()
                .filter(|(_, upstream)| upstream.protocol == Protocol::Http2)
                .map(|(name, _)| name.value.clone())
                .collect(),
        }
    }
}

fn check_version(file: &raw::File, decoder: &mut Decoder) {
    match &file.version {
        Some(version) if version.value == 1 => {}
        Some(version) => decoder.mistake_at(version, "only version 1 is known"),
        None => decoder.inside("version", |decoder| {
            decoder.mistake(Position::START, "is missing; write version: 1");
        }),
    }
}

/// A wait of nothing and a bound of none would refuse everything, which nobody means.
fn check_server(server: &Server, decoder: &mut Decoder) {
    let waits = [
        ("handshake_timeout", server.handshake_timeout),
        ("header_timeout", server.header_timeout),
        ("keepalive", server.keepalive),
        ("body_timeout", server.body_timeout),
        ("write_timeout", server.write_timeout),
    ];
    let bounds = [
        ("max_connections", server.max_connections),
        ("max_connections_per_address", server.max_connections_per_address),
        ("keepalive_requests", server.keepalive_requests),
        ("header_count_max", server.header_count_max),
        ("http2_streams", server.http2_streams),
    ];
    let waits = waits.into_iter().filter(|(_, wait)| wait.duration().is_zero()).map(|(key, _)| key);
    let bounds = bounds.into_iter().filter(|(_, bound)| *bound == 0).map(|(key, _)| key);
    let watch = server.watch.is_some_and(|every| every.duration().is_zero()).then_some("watch");
    for key in waits.chain(bounds).chain(watch) {
        decoder.inside("server", |decoder| {
            decoder.inside(key, |decoder| decoder.mistake(Position::START, "must be more than nothing"));
        });
    }
}

fn check_listeners(named: &Named<listeners::Listener>, decoder: &mut Decoder) -> Vec<Listener> {
    if named.names().next().is_none() {
        decoder.inside("listeners", |decoder| {
            let advice = "none is declared; write at least one, such as http: { bind: 127.0.0.1:8080 }";
            decoder.mistake(Position::START, advice);
        });
    }
    let has_tls = named.items.iter().any(|(_, listener)| listener.tls.is_some());
    let mut taken: HashMap<SocketAddr, &str> = HashMap::new();
    let mut checked = Vec::with_capacity(named.items.len());
    for (name, listener) in &named.items {
        let bind = listener.bind.value.0;
        // Port 0 asks the system for a free one, so two of them never collide.
        if let Some(other) = (bind.port() != 0).then(|| taken.insert(bind, &name.value)).flatten() {
            decoder.mistake_at(&listener.bind, format!("{bind} is taken by listener {other:?}"));
        }
        if let Some(kind) = listener_kind(listener, has_tls, decoder) {
            checked.push(Listener { name: name.value.as_str().into(), bind, kind });
        }
    }
    checked
}

fn listener_kind(listener: &listeners::Listener, has_tls: bool, decoder: &mut Decoder) -> Option<ListenerKind> {
    match (&listener.tls, &listener.redirect) {
        (None, None) => Some(ListenerKind::Plain),
        (Some(_), Some(redirect)) => {
            decoder.mistake_at(redirect, "a TLS listener cannot redirect to https; drop redirect or tls");
            None
        }
        (None, Some(redirect)) => {
            if !has_tls && listener.redirect_port.is_none() {
                decoder.mistake_at(redirect, "there is no TLS listener to redirect to; name a redirect_port");
            }
            Some(ListenerKind::RedirectToHttps { port: listener.redirect_port })
        }
        (Some(tls), None) => {
            if tls.certificates.is_empty() {
                decoder.mistake_at(&listener.bind, "tls.certificates is empty; a TLS listener needs one at least");
            }
            let certificates = tls.certificates.iter();
            let certificates = certificates
                .map(|pair| CertificateFiles { cert: pair.cert.clone(), key: pair.key.clone() })
                .collect();
            Some(ListenerKind::Tls { certificates, min_version: tls.min_version })
        }
    }
}

fn check_upstream(
    (name, upstream): (At<String>, raw::upstreams::Upstream),
    decoder: &mut Decoder,
) -> Option<Upstream> {
    if upstream.targets.is_empty() {
        decoder.mistake_at(&name, "targets is empty; list at least one IP:port");
        return None;
    }
    if upstream.targets.len() > 64 {
        decoder.mistake_at(&name, "more than 64 targets");
    }
    for (index, target) in upstream.targets.iter().enumerate() {
        let Address(address) = target.value;
        if address.port() == 0 {
            decoder.mistake_at(target, "port 0 cannot be connected to");
        }
        if upstream.targets[..index].iter().any(|earlier| earlier.value == target.value) {
            decoder.mistake_at(target, format!("{address} is listed twice"));
        }
    }
    if let Some(tls) = &upstream.tls
        && rustls_pki_types::DnsName::try_from(tls.name.value.as_str()).is_err()
    {
        decoder.mistake_at(&tls.name, format!("{:?} is not a DNS name", tls.name.value));
    }
    if let Some(health) = &upstream.health {
        if !health.http.value.starts_with('/') {
            decoder.mistake_at(&health.http, "a path begins with \"/\"");
        }
        if health.up_after == 0 || health.down_after == 0 {
            decoder.mistake_at(&health.http, "up_after and down_after are at least 1");
        }
        if health.every.duration().is_zero() || health.timeout.duration().is_zero() {
            decoder.mistake_at(&health.http, "every and timeout must be longer than nothing");
        }
    }
    let timeouts = [upstream.timeouts.connect, upstream.timeouts.first_byte, upstream.timeouts.idle];
    if timeouts.iter().any(|wait| wait.duration().is_zero()) {
        decoder.mistake_at(&name, "timeouts.connect, .first_byte and .idle must be longer than nothing");
    }
    if upstream.retry.attempts == 0 {
        decoder.mistake_at(&name, "retry.attempts counts the first attempt, so it is at least 1");
    }
    Some(Upstream {
        name: name.value.into(),
        targets: upstream.targets.iter().map(|target| target.value.0).collect(),
        protocol: upstream.protocol,
        tls: upstream.tls,
        balance: upstream.balance,
        health: upstream.health,
        timeouts: upstream.timeouts,
        retry: upstream.retry,
    })
}

fn check_revocations(feed: Option<Revocations>, decoder: &mut Decoder) -> Option<Revocations> {
    let feed = feed?;
    let wrong = if feed.urls.is_empty() {
        Some("urls is empty; list at least one URL")
    } else if feed.every.duration() < REVOCATIONS_EVERY_MIN || feed.timeout.duration().is_zero() {
        Some("every is at least 50ms, and timeout longer than nothing")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        decoder.inside("revocations", |decoder| decoder.mistake(Position::START, wrong));
    }
    Some(feed)
}

/// What tells two routes apart. Equal keys would leave the choice to the order in the file.
type Selector = (Option<HostPattern>, PathPattern, Option<String>);

fn check_routes(routes: Vec<routes::Route>, names: &Names, limits: &[Limit], decoder: &mut Decoder) -> Vec<Route> {
    let mut ids: HashMap<String, u64> = HashMap::new();
    let mut selectors: HashMap<Selector, String> = HashMap::new();
    let mut checked = Vec::with_capacity(routes.len());
    for route in routes {
        if let Some(line) = ids.insert(route.id.value.clone(), route.id.position.line) {
            decoder.mistake_at(
                &route.id,
                format!("route {:?} is declared twice; the first is on line {line}", route.id.value),
            );
        }
        if let Err(message) = common::settings::check_name(&route.id.value) {
            decoder.mistake_at(&route.id, message);
        }
        check_selectors(&route, &mut selectors, decoder);
        checked.extend(check_route(route, names, limits, decoder));
    }
    checked
}

fn check_selectors(route: &routes::Route, selectors: &mut HashMap<Selector, String>, decoder: &mut Decoder) {
    let methods: Vec<Option<String>> = match &route.methods[..] {
        [] => vec![None],
        methods => methods.iter().map(|method| Some(method.0.as_str().to_owned())).collect(),
    };
    for method in methods {
        let selector = (route.host.clone(), route.path.clone(), method);
        if let Some(other) = selectors.insert(selector, route.id.value.clone()) {
            let message = format!("route {:?} matches the same host, path and method as {other:?}", route.id.value);
            decoder.mistake_at(&route.id, message);
        }
    }
}

fn check_route(route: routes::Route, names: &Names, limits: &[Limit], decoder: &mut Decoder) -> Option<Route> {
    let schemes = check_route_auth(&route, &names.schemes, decoder);
    let public = schemes.as_ref().is_some_and(Vec::is_empty);
    let (require, owner) = check_require(&route, public, decoder);
    let upstream = resolve(&route.to, "upstream", &names.upstreams, decoder);
    if route.websocket && names.http2_upstreams.contains(&route.to.value) {
        decoder.mistake_at(&route.to, "speaks HTTP/2, and a WebSocket needs an upstream that speaks HTTP/1.1");
    }
    let mut route_limits = Vec::with_capacity(route.limits.len());
    for limit in &route.limits {
        let position = resolve(limit, "limit", &names.limits, decoder);
        let found = limits.iter().find(|found| *found.name == *limit.value);
        if public && found.is_some_and(Limit::needs_identity) {
            decoder.mistake_at(limit, "counts by identity, and a public route (auth: none) has none");
        }
        route_limits.extend(position);
    }
    Some(Route {
        id: route.id.value.into(),
        host: route.host,
        path: route.path,
        methods: route.methods.into_iter().map(|method| method.0).collect(),
        schemes: schemes?,
        require,
        owner,
        shadow_auth: route.shadow.contains(&Watched::Auth),
        shadow_require: route.shadow.contains(&Watched::Require),
        limits: route_limits,
        upstream: upstream?,
        timeout: route.timeout.map(common::settings::Millis::duration),
        websocket_idle: route.websocket.then(|| route.websocket_idle.duration()),
        body_bytes_max: route.body_max.bytes(),
        log: route.log,
    })
}

pub(super) fn resolve(
    name: &At<String>,
    what: &str,
    known: &HashMap<String, usize>,
    decoder: &mut Decoder,
) -> Option<usize> {
    let found = known.get(&name.value).copied();
    if found.is_none() {
        let mut names: Vec<&str> = known.keys().map(String::as_str).collect();
        names.sort_unstable();
        decoder.mistake_at(name, name.unknown_name(what, &name.value, names.into_iter()));
    }
    found
}
