//! Outcome: how an attempt went, for whoever chooses the next time.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use http::StatusCode;

use crate::stages::context::Context;

/// Takes in the head of an answer: when it came, and whether its server is well.
pub(crate) fn answered(status: StatusCode, context: &mut Context) {
    let now_ns = SystemClock.steady_ns();
    if let Some(traced) = &mut context.traced {
        // The last head is the one that counts: informational ones come before it.
        traced.attempt_answered(status.as_u16());
    }
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    context.dispatch.answered_ns = Some(now_ns);
    let (Some(pool), Some(ticket)) = (context.pool(), &context.dispatch.ticket) else { return };
    if let Some(began_ns) = context.dispatch.attempt_began_ns {
        ticket.endpoint.answered(Duration::from_nanos(now_ns.saturating_sub(began_ns)), now_ns);
    }
    pool.note_outcome(&ticket.endpoint, !gives_up(status));
}

/// Whether a server says by its answer that it cannot.
pub(crate) fn gives_up(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_go_before_the_answer_are_none() {
        let mut context = Context::new();
        for early in [StatusCode::CONTINUE, StatusCode::PROCESSING, StatusCode::EARLY_HINTS] {
            answered(early, &mut context);
            assert_eq!(context.dispatch.answered_ns, None, "{early}: a deadline that ends with the head still holds");
        }
        for last in [StatusCode::SWITCHING_PROTOCOLS, StatusCode::OK] {
            context.dispatch.answered_ns = None;
            answered(last, &mut context);
            assert!(context.dispatch.answered_ns.is_some(), "{last}");
        }
    }
}
