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
use crate::stages::dispatch::deadline::{Deadline, WaitsCut};
use crate::upstream::peer::failure_of;

/// The least time for a write to a client: a refusal has to get out even at the last moment.
const WRITE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The status of an answer that did not come in time.
const GATEWAY_TIMEOUT: u16 = 504;

/// Cuts the waits of an attempt, and tells which. What is cut stays so to the end of the answer; and on a connection that a server
/// shares among requests, a piece that was waited for too long makes Pingora use another one. So pieces of the answer are waited for
/// as ever where the client's socket keeps the time, which is HTTP/1.1; and so are the frames of a WebSocket (`is_websocket`), both
/// ways, where the deadline ends with the head.
pub(super) fn bound(session: &mut Session, peer: &mut HttpPeer, deadline: Deadline, is_websocket: bool) -> WaitsCut {
    let timer = notes(session).filter(|_| !session.is_http2());
    if let Some(notes) = timer {
        notes.end.set(deadline.ends_ns);
    }
    let has_timer = timer.is_some();
    let left = deadline.left();
    let at_most = |wait: Option<Duration>| Some(wait.map_or(left, |wait| wait.min(left)));
    let options = &mut peer.options;
    options.connection_timeout = at_most(options.connection_timeout);
    options.total_connection_timeout = at_most(options.total_connection_timeout);
    let mut cut = WaitsCut::default();
    if !(deadline.until_head && is_websocket) {
        let own = options.write_timeout;
        options.write_timeout = at_most(own);
        cut.write = options.write_timeout != own;
    }
    if !has_timer {
        let own = options.read_timeout;
        options.read_timeout = at_most(own);
        cut.read = options.read_timeout != own;
    }
    if !deadline.until_head {
        let wait = at_most(session.get_write_timeout()).map(|wait| wait.max(WRITE_TIMEOUT_MIN));
        session.set_write_timeout(wait);
    }
    cut
}

/// The head of the answer is there: a deadline that ends with it is kept.
pub(super) fn head_is_there(session: &Session, context: &Context) {
    // On HTTP/2 it is kept by other means, and the end of the connection stands for something else.
    if context.dispatch.deadline.is_some_and(|deadline| deadline.until_head)
        && let Some(notes) = notes(session).filter(|_| !session.is_http2())
    {
        notes.end.clear();
    }
}

/// The deadline, unless it ended with the head of the answer.
fn holding(context: &Context) -> Option<Deadline> {
    let notes = &context.dispatch;
    notes.deadline.filter(|deadline| !(deadline.until_head && notes.answered_ns.is_some()))
}

/// Whether the time is over while bytes still pass.
pub(super) fn has_passed(context: &Context) -> bool {
    holding(context).is_some_and(Deadline::has_passed)
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
    let late = holding(context).is_some_and(Deadline::is_over);
    let cut = match error.etype() {
        ErrorType::ReadTimedout => context.dispatch.waits_cut.read,
        ErrorType::WriteTimedout => context.dispatch.waits_cut.write,
        _ => false,
    };
    match failure_of(error) {
        Failure::Timeout if late || cut => Failure::Deadline,
        Failure::Connect | Failure::Client | Failure::ClientSlow | Failure::Refused(GATEWAY_TIMEOUT) if late => {
            Failure::Deadline
        }
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_not_blamed_for_a_wait_that_the_deadline_cut() {
        let late = |kind, waits_cut| {
            let mut context = Context::new();
            // The head came in time, and with it the deadline ended; a pause behind it was longer than what was left.
            context.dispatch.deadline = Some(Deadline { ends_ns: u64::MAX, until_head: true });
            context.dispatch.answered_ns = Some(1);
            context.dispatch.waits_cut = waits_cut;
            failure(&Error::new_up(kind), &context)
        };
        let (none, read) = (WaitsCut::default(), WaitsCut { read: true, write: false });
        let write = WaitsCut { read: false, write: true };
        for (kind, cut, expected) in [
            (ErrorType::ReadTimedout, none, Failure::Timeout),
            (ErrorType::ReadTimedout, read, Failure::Deadline),
            (ErrorType::ReadTimedout, write, Failure::Timeout),
            (ErrorType::WriteTimedout, write, Failure::Deadline),
            (ErrorType::WriteTimedout, read, Failure::Timeout),
            (ErrorType::ConnectionClosed, read, Failure::Broken),
        ] {
            assert_eq!(late(kind.clone(), cut), expected, "{kind:?} {cut:?}");
        }
        assert!(!Failure::Deadline.is_of_upstream());
    }
}
