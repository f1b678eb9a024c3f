//! Tell: what the steps up to `budget` look at, in words.
//!
//! For: the `says` of a story. May touch: what the stages have left in the context, and the configuration. Promises: nothing is
//! decided here; a credential and the value of a header never show. Read next: `send.rs` for the steps behind.

use common::code::Code;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, ORIGIN};

use super::routes::others;
use super::words;
use crate::base::head::{Head, Occurrence};
use crate::base::refusal::Refusal;
use crate::config::Config;
use crate::config::checked::{self, LimitKeyPart, Owner};
use crate::stages::admission::{self, Target};
use crate::stages::auth::Identity;
use crate::stages::auth::rehearse::{Found, Look};
use crate::stages::context::Context;
use crate::stages::plan::{Plan, Route};

/// The refusal in words.
pub(super) fn refused(refusal: &Refusal) -> String {
    let code = refusal.code;
    let detail = if refusal.detail.is_empty() { code.title() } else { &*refusal.detail };
    format!("refused: {} {}: {detail}", code.status(), code.name())
}

/// Host and path in the form in which they are matched.
pub(super) fn head(head: &Head<'_>, target: &Target<'_>) -> Vec<String> {
    let path = String::from_utf8_lossy(&target.path);
    let mut says = vec![format!("host {}, path {path}", target.host)];
    if *target.path != *head.path {
        says.push(format!("the path was sent as {}", String::from_utf8_lossy(head.path)));
    }
    says
}

/// The route, and why it is not another. `None` where it was never looked for.
pub(super) fn route(
    config: &Config,
    context: &Context,
    head: &Head<'_>,
    target: &Target<'_>,
    refusal: Option<&Refusal>,
) -> Option<Vec<String>> {
    let mut says = Vec::new();
    let route = context.route.as_ref().and_then(|route| of_config(config, route));
    match (route, refusal) {
        (Some(route), _) => {
            let (host, path) = (words::host(route.host.as_ref()), words::path(&route.path));
            says.push(format!("{}: host {host}, path {path}, methods {}", route.id, words::methods(&route.methods)));
        }
        (None, Some(refusal)) if is_about_routes(refusal) => says.push(refused(refusal)),
        _ => return None,
    }
    let preflight = admission::cors::preflight(head);
    let method = preflight.as_ref().map_or(head.method, |preflight| &preflight.method);
    says.extend(others(&config.routes, route.map(|route| &*route.id), target, method));
    Some(says)
}

/// Whether there is no route for the request.
fn is_about_routes(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::RouteNotFound | Code::MethodNotAllowed)
}

/// A route as the configuration has it.
pub(super) fn of_config<'c>(config: &'c Config, route: &Route) -> Option<&'c checked::Route> {
    config.routes.iter().find(|known| known.id == route.id)
}

/// Who comes in, and by which rules.
pub(super) fn admission(plan: &Plan, context: &Context, head: &Head<'_>, refusal: Option<&Refusal>) -> Vec<String> {
    let mut says = Vec::new();
    if let Some(client) = context.client {
        let by = if client.through_trusted_proxy { "X-Forwarded-For of a trusted proxy" } else { "the connection" };
        says.push(format!("client {} by {by}", client.ip));
        if client.network != client.ip {
            says.push(format!("counts as {}", client.network));
        }
    }
    if let Some(route) = &context.route {
        says.extend(access(route, context));
        says.extend(cors(route, head));
        if head.headers.contains_key(CONTENT_LENGTH) {
            says.push(format!("a body of at most {} bytes", route.body_bytes_max));
        }
        if route.client_certificate.required {
            says.push("asks for a client certificate, and none is shown here".to_owned());
        }
        says.extend(
            route
                .limits_by_address
                .iter()
                .filter(|limit| !limit.shadow)
                .map(|limit| format!("{} is looked at before any credential; taken to be unspent", limit.name)),
        );
    } else if context.client.is_some_and(|client| plan.denied.contains(client.ip)) {
        says.push("client_ip.deny names it".to_owned());
    }
    says.extend(refusal.filter(|refusal| !is_about_routes(refusal)).map(refused));
    says
}

fn access(route: &Route, context: &Context) -> Option<String> {
    let (allowed, client) = (route.allow_from.as_ref()?, context.client?);
    let names = if allowed.contains(client.ip) { "names it" } else { "does not name it" };
    Some(format!("allow_from of {} {names}", route.id))
}

fn cors(route: &Route, head: &Head<'_>) -> Option<String> {
    let cors = route.cors.as_ref()?;
    let Occurrence::Once(origin) = head.single(&ORIGIN) else {
        return Some("cors: the request names no Origin".to_owned());
    };
    let may = if cors.allow(origin).is_some() { "may" } else { "may not" };
    Some(format!("cors: a page of {} {may} read the answer", origin.to_str().unwrap_or("(not text)")))
}

/// What each scheme finds. Those behind the one that decides are not asked.
pub(super) fn looks(looks: &[Look<'_>]) -> Vec<String> {
    if looks.is_empty() {
        return vec!["none: the route is open to everybody, and credentials are not looked at".to_owned()];
    }
    let deciding = looks.iter().position(|look| look.found == Found::Credential);
    let told = looks.iter().enumerate().map(|(index, look)| {
        let found = match look.found {
            _ if deciding.is_some_and(|deciding| deciding < index) => "not asked any more",
            Found::Nothing => "nothing there",
            Found::OfAnother => "a token of another issuer, passed over",
            Found::Credential => "there, and decides",
        };
        format!("{}: {}: {found}", look.scheme.name, look.scheme.takes())
    });
    told.collect()
}

/// Who it is, and what is asked of them.
pub(super) fn caller(identity: &Identity, route: &Route) -> Vec<String> {
    let list =
        |value: Option<&HeaderValue>| value.map_or_else(|| "none".to_owned(), |value| words::text(value.as_bytes()));
    let headers = &identity.headers;
    let mut says = vec![format!(
        "{} by {}, permissions: {}, roles: {}",
        words::text(identity.subject.as_bytes()),
        identity.method.word(),
        list(headers.permissions.as_ref()),
        list(headers.roles.as_ref())
    )];
    let needed = words::requirements(&route.require);
    says.push(format!("needs: {}", if needed.is_empty() { "to be known" } else { needed.as_str() }));
    says.extend(route.owner.as_ref().map(owner));
    says
}

fn owner(owner: &Owner) -> String {
    let unless = if owner.unless.is_empty() { "" } else { ", unless a permission lifts it" };
    format!("part {} of the path must be the caller's {}{unless}", owner.segment + 1, owner.claim)
}

/// What counts, and by which key.
pub(super) fn budget(config: &Config, context: &Context, route: &Route) -> Vec<String> {
    let limits = of_config(config, route).map_or(&[][..], |route| &route.limits);
    let limits = limits.iter().filter_map(|position| config.limits.get(*position));
    let says: Vec<String> = limits.map(|limit| self::limit(limit, context, route)).collect();
    if says.is_empty() { vec!["no limits".to_owned()] } else { says }
}

fn limit(limit: &checked::Limit, context: &Context, route: &Route) -> String {
    let parts: Option<Vec<String>> = limit.by.iter().map(|part| key_part(part, context, route)).collect();
    let key = parts.map_or_else(|| "does not count this request".to_owned(), |parts| parts.join(" and "));
    let cost = if limit.cost == 1 { String::new() } else { format!(", of which a request costs {}", limit.cost) };
    let shared = if limit.shared.is_some() { "; counted in Redis" } else { "" };
    let shadow = if limit.shadow { "; only watched" } else { "" };
    format!("{}: {key}: {}{cost}{shared}{shadow}", limit.name, words::measure(limit.measure))
}

/// What is counted by, with its value where that is no secret; `None` where the limit is not about this request.
fn key_part(part: &LimitKeyPart, context: &Context, route: &Route) -> Option<String> {
    let identity = context.identity.as_ref();
    let value = match part {
        LimitKeyPart::ClientIp => context.client?.network.to_string(),
        LimitKeyPart::Route => route.id.to_string(),
        LimitKeyPart::Header(_) => "(not shown)".to_owned(),
        LimitKeyPart::Subject => identity?.subject.to_string(),
        LimitKeyPart::KeyOrSubject => identity?.limit_key.to_string(),
        LimitKeyPart::Key => identity?.key_id.as_ref()?.to_string(),
        LimitKeyPart::Claim(name) => identity?.claim(name).unwrap_or("(nothing)").to_owned(),
    };
    Some(format!("{} {value}", words::counts_by(part)))
}
