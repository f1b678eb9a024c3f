//! Failure: what to say when there is no answer.

use common::code::Code;

use crate::base::failure::Failure;
use crate::base::refusal::{Advice, Refusal};
use crate::stages::context::Context;
use crate::stages::dispatch::deadline;

/// The refusal that stands in for the answer; `None` when there is nobody left to tell.
pub(crate) fn refusal(failure: Failure, context: &Context) -> Option<Refusal> {
    let code = match failure {
        Failure::Client => return None,
        Failure::Connect => return Some(unreachable(context)),
        Failure::Deadline => return Some(deadline::refusal()),
        Failure::ClientSlow => Code::RequestTimeout,
        Failure::ClientProtocol => Code::RequestMalformed,
        Failure::Timeout => Code::UpstreamTimeout,
        Failure::Broken => Code::UpstreamFailed,
        Failure::Protocol => Code::UpstreamProtocol,
        Failure::Refused(status) => match status {
            413 => Code::BodyTooLarge,
            400 => Code::RequestMalformed,
            _ => Code::InternalError,
        },
        Failure::Internal => Code::InternalError,
    };
    let about_upstream = matches!(failure, Failure::Timeout | Failure::Broken | Failure::Protocol);
    let refusal = Refusal::new(code);
    Some(match context.pool() {
        Some(pool) if about_upstream => refusal.policy(&pool.name),
        _ => refusal,
    })
}

/// Nobody took the connection: to the client that is an upstream that is away, for a moment or longer.
fn unreachable(context: &Context) -> Refusal {
    let refusal = Refusal::new(Code::UpstreamUnavailable);
    match context.pool() {
        Some(pool) => refusal.policy(&pool.name).advice(Advice::RetryAfter(pool.retry_after())),
        None => refusal,
    }
}
