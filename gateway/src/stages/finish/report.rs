//! Report: count it, log it, give the place back.

use std::sync::Arc;
use std::time::Duration;

use common::traces::Tracer;
use http::Method;

use super::spans;
use crate::base::telemetry::access_log::{AccessLog, Entry};
use crate::config::checked::LogWhat;
use crate::stages::context::{Context, unix_ms};
use crate::stages::plan::Plan;
use crate::stages::verdict::Verdict;

/// What the connection knows about a request that is over.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub host: Option<&'a str>,
    /// The status that went out; 0 when none did.
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub protocol: &'static str,
}

/// The longest path and host that a line holds; what was refused for its length can be longer.
pub(super) const PATH_BYTES_MAX: usize = 2048;
pub(super) const HOST_BYTES_MAX: usize = 255;

/// A client that left before its answer; nginx's number, so that people recognise it.
const CLIENT_LEFT_STATUS: u16 = 499;

/// Says the last words about a request.
pub(crate) fn report(
    plan: &Plan,
    log: &AccessLog,
    tracer: Option<&Tracer>,
    context: &mut Context,
    ending: &Ending<'_>,
) {
    let duration = context.now.elapsed();
    let status = if ending.status == 0 { CLIENT_LEFT_STATUS } else { ending.status };
    if let Some(tracer) = tracer {
        spans::tell(tracer, context, ending, status, duration);
    }
    let route = context.route.take();
    let metrics = route.as_ref().map_or(&plan.unrouted, |route| &route.metrics);
    metrics.answered(status, duration.as_secs_f64());
    if let Some(code) = context.verdict.code() {
        plan.count_refusal(route.as_ref(), code);
    }
    for shadowed in &context.shadow {
        plan.metrics.shadowed(route.as_ref().map_or("-", |route| &route.id), shadowed.code);
    }
    let shadow = context.shadow.drain(..).map(|shadowed| (shadowed.policy, shadowed.code.name())).collect();
    let upstream = context.dispatch.ticket.take().map(|ticket| Arc::clone(&ticket.endpoint.label));
    let unremarkable = status < 400 && !matches!(context.verdict, Verdict::Failed(_));
    if unremarkable && route.as_ref().is_some_and(|route| route.log == LogWhat::Errors) {
        return;
    }
    let waited = context.dispatch.attempt_began_ns.zip(context.dispatch.answered_ns);
    log.push(Entry {
        time_unix_ms: unix_ms(),
        request_id: context.request_id.clone(),
        trace_id: context.traced.as_ref().map(|traced| traced.trace.id()),
        method: ending.method.clone(),
        path: short(ending.path, PATH_BYTES_MAX),
        host: ending.host.map(|host| short(host, HOST_BYTES_MAX)),
        status,
        code: context.verdict.code().map(common::code::Code::name),
        route: route.map(|route| Arc::clone(&route.id)),
        policy: context.verdict.policy(),
        auth_tried: std::mem::take(&mut context.auth_tried),
        shadow,
        to: context.pool().map(|pool| Arc::clone(&pool.name)),
        upstream,
        client: context.client_ip(),
        subject: context.identity.as_ref().map(|identity| Arc::clone(&identity.subject)),
        duration_us: micros(duration),
        upstream_us: waited.map(|(began, answered)| answered.saturating_sub(began) / 1000),
        attempts: context.dispatch.attempts,
        bytes_in: ending.bytes_in,
        bytes_out: ending.bytes_out,
        protocol: ending.protocol,
        outcome: context.verdict.outcome(),
    });
}

/// The first bytes of a text, cut between characters.
pub(super) fn short(text: &str, bytes_max: usize) -> Box<str> {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().into()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
