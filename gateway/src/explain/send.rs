//! Send: where a request would go and with which fields, and what becomes of its answer.
//!
//! For: the steps `dispatch`, `egress` and `finish` of a story. May touch: the stages that make heads, and the route's pools for
//! their settings; no place is taken and nobody is asked. Promises: the fields are made by the very functions that make them for a
//! request that is sent; values that the configuration sets, and credentials, do not show. Read next: `walk.rs`.

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::story::Field;
use super::words;
use crate::base::head::Head;
use crate::config::checked::LogWhat;
use crate::stages::context::Context;
use crate::stages::dispatch::split::Split;
use crate::stages::dispatch::{self, deadline, pick, rewrite};
use crate::stages::egress::compress::accept::Accepted;
use crate::stages::plan::{Plan, Route};
use crate::upstream::pool::Pool;

/// Fields about the client's own connection, besides those that its `Connection` names.
const OF_CONNECTION: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// What would be sent on.
#[derive(Debug)]
pub(super) struct Sending {
    /// Upstreams; more than one where it would be drawn for.
    pub to: Vec<String>,
    pub target: String,
    /// Every field, as the upstream would get it.
    pub sent: HeaderMap,
    /// Those of them that are not as the client sent them.
    pub told: Vec<Field>,
    pub says: Vec<String>,
}

/// Makes the head for the upstream. `path` is the one in normal form, where that is not the one that was sent.
pub(super) fn send(head: &Head<'_>, route: &Route, context: &mut Context, path: Option<Vec<u8>>) -> Sending {
    let mut says = Vec::new();
    let pools = route.split.as_ref().map(|split| choose(split, head, context, &mut says)).unwrap_or_default();
    context.dispatch.deadline = deadline::of(head.headers, context);
    let mut sent = head.headers.clone();
    leave_connection(route, &mut sent);
    dispatch::tell(head, context, &mut sent);
    let target = target(head, route, path);
    says.push(format!(
        "asks for {} {target}, Host {}",
        head.method,
        shown(&sent, &HOST).as_deref().unwrap_or("none")
    ));
    let changed = |name: &&HeaderName| !sent.get_all(*name).iter().eq(head.headers.get_all(*name).iter());
    let told: Vec<Field> = sent.keys().filter(changed).map(|name| field(name, &sent, route)).collect();
    says.extend(told.iter().map(|field| format!("sets {field}")));
    let gone: Vec<&str> =
        head.headers.keys().filter(|name| !sent.contains_key(*name)).map(HeaderName::as_str).collect();
    if !gone.is_empty() {
        says.push(format!("takes away {}", gone.join(", ")));
    }
    says.extend(pools.iter().map(|pool| waits(pool, route)));
    says.extend(besides(route));
    let to = pools.iter().map(|pool| pool.name.to_string()).collect();
    Sending { to, target, sent, told, says }
}

/// Takes away what is about the client's connection, as Pingora does before anything else (RFC 9110 §7.6.1). The wish for a
/// WebSocket goes on where the route grants it.
fn leave_connection(route: &Route, sent: &mut HeaderMap) {
    let wish = sent.get(UPGRADE).filter(|_| route.websocket_idle.is_some());
    let websocket = wish.is_some_and(|wish| wish.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let options = sent.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named: Vec<HeaderName> =
        options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok()).collect();
    for name in named {
        sent.remove(name);
    }
    for name in OF_CONNECTION {
        sent.remove(name);
    }
    if websocket {
        sent.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        sent.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// Who is asked: one, unless it would be drawn for.
fn choose<'s>(split: &'s Split, head: &Head<'_>, context: &Context, says: &mut Vec<String>) -> Vec<&'s Pool> {
    if let [only] = split.sides() {
        says.push(format!("to {}: {}", only.pool.name, servers(&only.pool)));
        return vec![&*only.pool];
    }
    let key = split.by().and_then(|by| Some((by, pick::key(by, head.headers, context)?)));
    if let Some((by, key)) = key {
        let chosen: Vec<&Pool> = split.choose(Some(key)).map(|side| &*side.pool).into_iter().collect();
        says.extend(
            chosen.iter().map(|pool| format!("to {} by {}: {}", pool.name, words::hash_by(by), servers(pool))),
        );
        return chosen;
    }
    let drawn = split.sides().iter().filter(|side| side.weight > 0);
    says.extend(
        drawn.clone().map(|side| format!("to {} in {} shares: {}", side.pool.name, side.weight, servers(&side.pool))),
    );
    drawn.map(|side| &*side.pool).collect()
}

fn servers(pool: &Pool) -> String {
    let servers: Vec<String> = pool.endpoints().iter().map(|endpoint| endpoint.label.to_string()).collect();
    if servers.is_empty() { "servers that are looked up when it runs".to_owned() } else { servers.join(", ") }
}

/// Path and query as the upstream is asked for them, without parameters that carry a credential.
fn target(head: &Head<'_>, route: &Route, path: Option<Vec<u8>>) -> String {
    let mut target = path.unwrap_or_else(|| head.path.to_vec());
    if let Some(query) = head.query {
        let query = [&b"?"[..], query].concat();
        let hidden = &route.hidden_query;
        target.extend(if hidden.is_empty() { query } else { rewrite::without(&query, hidden) });
    }
    let rewritten = route.rewrite.as_ref().and_then(|rules| rewrite::target(rules, &target));
    String::from_utf8_lossy(&rewritten.unwrap_or(target)).into_owned()
}

/// A field that is told, unless its value is nobody's business.
fn field(name: &HeaderName, sent: &HeaderMap, route: &Route) -> Field {
    let is_secret = [COOKIE, AUTHORIZATION, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL].contains(name)
        || route.copied.contains(name)
        || route.request_headers.set.iter().any(|(set, _)| set == name);
    Field { name: name.to_string(), value: if is_secret { None } else { shown(sent, name) } }
}

fn shown(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values = fields.get_all(name).iter();
    let values: Vec<String> = values.map(|value| words::text(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// How long its servers are waited for, and how often another is asked.
fn waits(pool: &Pool, route: &Route) -> String {
    let settings = pool.settings();
    let timeouts = &settings.timeouts;
    let first_byte = pool.per_try().or(route.timeout).unwrap_or(timeouts.first_byte.duration());
    let (connect, attempts) = (timeouts.connect.duration(), settings.retry.attempts);
    let budget = settings.retry.budget.percent();
    format!(
        "{}: {connect:?} to connect, {first_byte:?} to the first byte, {attempts} attempts at most, \
         retries within {budget}% of requests",
        pool.name
    )
}

/// What else the route does with a request.
fn besides(route: &Route) -> Vec<String> {
    let mut says = Vec::new();
    if let Some(rule) = route.deadline {
        let until = if rule.until_head { "the head of the answer" } else { "the last byte of the answer" };
        says.push(format!("{:?} for all of it, until {until}", rule.after));
    }
    if let Some(idle) = route.websocket_idle {
        says.push(format!("may become a WebSocket, closed after {idle:?} of silence"));
    }
    if let Some(mirror) = &route.mirror {
        says.push(format!("copies may go to {}", mirror.pool.name));
    }
    says
}

/// What would become of the upstream's answer.
pub(super) fn answer(head: &Head<'_>, route: &Route, plan: &Plan) -> Vec<String> {
    let mut says = Vec::new();
    if !plan.hidden.is_empty() {
        let hidden: Vec<&str> = plan.hidden.iter().map(HeaderName::as_str).collect();
        says.push(format!("hides {}", hidden.join(", ")));
    }
    let rules = words::rules(&route.response_headers);
    if !rules.is_empty() {
        says.push(format!("response_headers: {rules}"));
    }
    if plan.security.is_some() {
        says.push("security_headers are told".to_owned());
    }
    if let Some(compress) = &route.compress {
        says.push(match Accepted::read(head.headers).choose(&compress.algorithms.value) {
            Some(coding) => format!("compressed as {} where type and size are worth it", coding.word()),
            None => "not compressed: Accept-Encoding names none of the codings".to_owned(),
        });
    }
    if route.limit_policy.is_some() && route.limit_headers.standard {
        says.push("RateLimit and RateLimit-Policy tell of the limits".to_owned());
    }
    if let Some(every) = route.sse_heartbeat {
        says.push(format!("a comment in a stream of events after {every:?} of silence"));
    }
    says
}

/// Whether it is written down.
pub(super) fn log(route: Option<&Route>, outcome: &str) -> String {
    let errors_alone = route.is_some_and(|route| route.log == LogWhat::Errors);
    match (errors_alone, outcome) {
        (true, "refused") | (false, _) => format!("a line in the access log: {outcome}"),
        (true, _) => "a line in the access log only for 400 and more".to_owned(),
    }
}
