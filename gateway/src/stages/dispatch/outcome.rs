//! Outcome: how an attempt went, for whoever chooses the next time.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use http::StatusCode;

use crate::stages::context::Context;

/// Takes in the head of an answer: when it came, and whether its server is well.
pub(crate) fn answered(status: StatusCode, context: &mut Context) {
    let now_ns = SystemClock.steady_ns();
    context.dispatch.answered_ns = Some(now_ns);
    let pool = context.route.as_ref().and_then(|route| route.pool.as_ref());
    let (Some(pool), Some(ticket)) = (pool, &context.dispatch.ticket) else { return };
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if let Some(began_ns) = context.dispatch.attempt_began_ns {
        ticket.endpoint.answered(Duration::from_nanos(now_ns.saturating_sub(began_ns)), now_ns);
    }
    let gives_up =
        matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    pool.note_outcome(&ticket.endpoint, !gives_up);
}
