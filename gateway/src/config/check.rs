//! Check: what must hold between keys.
//!
//! For: raw → checked. May touch: raw sections. Promises: every broken rule is reported where the operator wrote it, and
//! checking goes on behind it. Read next: `checked.rs`.

use std::collections::HashMap;
use std::time::Duration;

use common::settings::{At, Decoder, Named, Position};

use super::cases::{Known, check_cases};
use super::check_answers::{
    check_compress, check_cors, check_does, check_hidden, check_rewrite, check_security, request_rules,
    response_rules,
};
use super::check_heartbeat::{Waits, check_heartbeat};
use super::check_limits::{check_limit, check_redis};
use super::check_listeners::{certificate_use, check_certificates, check_listeners};
use super::check_schemes::{check_require, check_route_auth, check_scheme};
use super::check_traffic::{check_deadline, check_mirror, check_split_by};
use super::check_upstreams::check_upstream;
use super::checked::{Config, Limit, Route};
use super::raw::revocations::Revocations;
use super::raw::routes::Watched;
use super::raw::server::Server;
use super::raw::upstreams::Protocol;
use super::raw::{self, routes};
use super::values::{HostPattern, PathPattern};

/// More often than that nobody needs to ask what was withdrawn.
const REVOCATIONS_EVERY_MIN: Duration = Duration::from_millis(50);

/// What the system takes as the path of a Unix socket, less room for the name that it has until it is opened.
const UPGRADE_SOCKET_BYTES_MAX: usize = 96;

/// Turns the file into a `Config`; what is wrong goes to `decoder`.
#[expect(clippy::unnecessary_wraps, reason = "`settings::load` takes checks that may end without a value")]
pub(super) fn check(file: raw::File, decoder: &mut Decoder) -> Option<Config> {
    check_version(&file, decoder);
    check_server(&file.server, decoder);
    if let Err(error) = common::telemetry::check_filter(&file.log.filter.value) {
        decoder.mistake_at(&file.log.filter, error.to_string());
    }
    if let Some(traces) = &file.traces {
        traces.check(decoder);
    }
    let names = Names::of(&file);
    check_certificates(&file, decoder);
    let listeners = check_listeners(&file.listeners, &file.client_ip, decoder);
    let upstreams = file.upstreams.items.into_iter().filter_map(|item| check_upstream(item, decoder)).collect();
    let redis = check_redis(file.stores.redis, decoder);
    let store = redis.is_some();
    let revocations = check_revocations(file.revocations, decoder);
    let schemes = file.auth.items.into_iter().filter_map(|item| check_scheme(item, store, decoder)).collect();
    let limits = file.limits.items.into_iter();
    let limits: Vec<Limit> = limits.filter_map(|item| check_limit(item, store, decoder)).collect();
    let cors = file.cors.items.into_iter().map(|item| check_cors(item, decoder)).collect();
    let hide_headers = check_hidden(&file.hide_headers, decoder);
    check_security(file.security_headers.as_ref(), decoder);
    let ids = file.routes.iter().enumerate();
    let ids: HashMap<_, _> = ids.map(|(position, route)| (route.id.value.clone(), position)).collect();
    let cases = check_cases(file.tests, &Known { routes: &ids, upstreams: &names.upstreams }, decoder);
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
        traces: file.traces,
        admin: file.admin.map(|admin| admin.bind.0),
        client_ip: file.client_ip,
        listeners,
        upstreams,
        schemes,
        revocations,
        redis,
        limits,
        cors,
        hide_headers,
        security_headers: file.security_headers,
        routes,
        cases,
    })
}

/// What routes may refer to, by name, to the position it will have.
struct Names {
    upstreams: HashMap<String, usize>,
    schemes: HashMap<String, usize>,
    limits: HashMap<String, usize>,
    cors: HashMap<String, usize>,
    /// Upstreams that speak HTTP/2.
    http2_upstreams: Vec<String>,
    /// How long upstreams may be silent, where heartbeats are possible.
    waits: HashMap<String, Option<Waits>>,
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
            cors: positions(&file.cors),
            http2_upstreams: file
                .upstreams
                .items
                .iter()
                .filter(|(_, upstream)| upstream.protocol == Protocol::Http2)
                .map(|(name, _)| name.value.clone())
                .collect(),
            waits: file.upstreams.items.iter().map(|(name, of)| (name.value.clone(), Waits::of(of))).collect(),
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
    if let Some(path) = &server.upgrade_socket
        && !(path.value.is_absolute() && path.value.as_os_str().len() <= UPGRADE_SOCKET_BYTES_MAX)
    {
        let rule = format!("must be an absolute path of at most {UPGRADE_SOCKET_BYTES_MAX} bytes");
        decoder.mistake_at(path, rule);
    }
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
    let client_certificate = certificate_use(&route);
    let does = check_does(&route, &names.upstreams, decoder);
    for to in route.asked().filter(|to| route.websocket && names.http2_upstreams.contains(&to.value)) {
        decoder.mistake_at(to, "speaks HTTP/2, and a WebSocket needs an upstream that speaks HTTP/1.1");
    }
    check_split_by(&route, public, decoder);
    let mirror = check_mirror(&route, &names.upstreams, decoder);
    let deadline = check_deadline(&route, decoder);
    let sse_heartbeat = check_heartbeat(&route, &names.waits, decoder);
    let cors = route.cors.as_ref().and_then(|name| resolve(name, "cors", &names.cors, decoder));
    let rewrite = check_rewrite(&route, decoder);
    let request_headers = request_rules(&route.request_headers, decoder);
    let response_headers = response_rules(&route.response_headers, decoder);
    let compress = check_compress(route.compress.0, decoder);
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
        allow_from: route.allow_from.into_iter().map(|network| network.0).collect(),
        cors,
        schemes: schemes?,
        require,
        owner,
        client_certificate,
        shadow_auth: route.shadow.contains(&Watched::Auth),
        shadow_require: route.shadow.contains(&Watched::Require),
        limits: route_limits,
        does: does?,
        rewrite,
        request_headers,
        response_headers,
        compress,
        mirror,
        timeout: route.timeout.map(common::settings::Millis::duration),
        deadline,
        websocket_idle: route.websocket.then(|| route.websocket_idle.duration()),
        sse_heartbeat,
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
