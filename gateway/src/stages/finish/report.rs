//! Report: count it, log it, give the place back.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Uri};

use crate::base::telemetry::access_log::{AccessLog, Entry};
use crate::config::checked::LogWhat;
use crate::stages::context::{Context, unix_ms};
use crate::stages::plan::Plan;

/// What the connection knows about a request that is over.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    pub method: &'a Method,
    pub target: &'a Uri,
    pub host: Option<HeaderValue>,
    /// The status that went out; 0 when none did.
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub protocol: &'static str,
}

/// A client that left before its answer; nginx's number, so that people recognise it.
const CLIENT_LEFT_STATUS: u16 = 499;

/// Says the last words about a request.
pub(crate) fn report(plan: &Plan, log: &AccessLog, context: &mut Context, ending: Ending<'_>) {
    let duration = context.now.elapsed();
    let status = if ending.status == 0 { CLIENT_LEFT_STATUS } else { ending.status };
    let route = context.route.take();
    let metrics = route.as_ref().map_or(&plan.unrouted, |route| &route.metrics);
    metrics.answered(status, duration.as_secs_f64());
    if let Some(code) = context.verdict.code() {
        plan.count_refusal(route.as_ref(), code);
    }
    let upstream = context.dispatch.ticket.take().map(|ticket| Arc::clone(&ticket.endpoint.label));
    if route.as_ref().is_some_and(|route| route.log == LogWhat::Errors) && status < 400 {
        return;
    }
    let waited = context.dispatch.attempt_began_ns.zip(context.dispatch.answered_ns);
    log.push(Entry {
        time_unix_ms: unix_ms(),
        request_id: context.request_id.clone(),
        method: ending.method.clone(),
        target: ending.target.clone(),
        host: ending.host,
        status,
        code: context.verdict.code().map(common::code::Code::name),
        route: route.map(|route| Arc::clone(&route.id)),
        policy: context.verdict.policy(),
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
