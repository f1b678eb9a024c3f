//! Deadline: Pingora's waits, cut to what is left of a request's time.
//!
//! For: holding the deadline in the places that Pingora has: its waits for a connection and for bytes, the pieces of bodies, and, on
//! HTTP/1.1, what it reads from the client all the while. May touch: Pingora's peers and sessions. Promises: as `proxy.rs`: no rule
//! lives here. Read next: `../stages/dispatch/deadline.rs`, `../base/request_end.rs`.

use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::notes;
use crate::base::failure::Failure;
use crate::stages::context::Context;
use crate::stages::dispatch::deadline::Deadline;
use crate::upstream::peer::failure_of;

/// The least time for a write to a client: a refusal has to get out even at the last moment.
const WRITE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The status of an answer that did not come in time.
const GATEWAY_TIMEOUT: u16 = 504;

/// Cuts the waits of an attempt. The frames of a WebSocket (`is_websocket`) are waited for as ever where the deadline ends with the
/// head.
pub(super) fn bound(session: &mut Session, peer: &mut HttpPeer, deadline: Deadline, is_websocket: bool) {
    if let Some(notes) = notes(session).filter(|_| !session.is_http2()) {
        notes.end.set(deadline.ends_ns);
    }
    let left = deadline.left();
    let at_most = |wait: Option<Duration>| Some(wait.map_or(left, |wait| wait.min(left)));
    let options = &mut peer.options;
    options.connection_timeout = at_most(options.connection_timeout);
    options.total_connection_timeout = at_most(options.total_connection_timeout);
    if deadline.until_head && is_websocket {
        return;
    }
    options.read_timeout = at_most(options.read_timeout);
    options.write_timeout = at_most(options.write_timeout);
    if !deadline.until_head {
        let wait = at_most(session.get_write_timeout()).map(|wait| wait.max(WRITE_TIMEOUT_MIN));
        session.set_write_timeout(wait);
    }
}

/// The head of the answer is there: a deadline that ends with it is kept.
pub(super) fn head_is_there(session: &Session, context: &Context) {
    if context.dispatch.deadline.is_some_and(|deadline| deadline.until_head)
        && let Some(notes) = notes(session)
    {
        notes.end.clear();
    }
}

/// Whether the time is over while bytes still pass.
pub(super) fn has_passed(context: &Context) -> bool {
    let holds = |deadline: Deadline| !(deadline.until_head && context.dispatch.answered_ns.is_some());
    context.dispatch.deadline.is_some_and(|deadline| holds(deadline) && deadline.has_passed())
}

/// Lets a piece of an answer pass, as long as there is time.
///
/// # Errors
/// When there is none. Said to be the client's fault, so that Pingora ends this request alone, and not the connection to the server,
/// which others may use.
pub(super) fn check(context: &Context) -> Result<()> {
    if has_passed(context) {
        return Err(Error::explain(ErrorType::HTTPStatus(GATEWAY_TIMEOUT), "the deadline has passed").into_down());
    }
    Ok(())
}

/// What went wrong. A wait that ended with the request's time is neither the server's fault nor the client's.
pub(super) fn failure(error: &Error, context: &Context) -> Failure {
    let holds = |deadline: Deadline| !(deadline.until_head && context.dispatch.answered_ns.is_some());
    let late = context.dispatch.deadline.is_some_and(|deadline| holds(deadline) && deadline.is_over());
    match failure_of(error) {
        Failure::Timeout
        | Failure::Connect
        | Failure::Client
        | Failure::ClientSlow
        | Failure::Refused(GATEWAY_TIMEOUT)
            if late =>
        {
            Failure::Deadline
        }
        failure => failure,
    }
}
