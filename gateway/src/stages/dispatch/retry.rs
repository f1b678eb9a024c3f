//! Retry: may a failed attempt be made again, elsewhere?

use http::Method;

use crate::base::failure::Failure;
use crate::stages::context::DispatchNotes;

/// How far an attempt had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No connection: the server has seen nothing.
    NotConnected,
    /// The request went out, at least in part, and no part of an answer came back. A pooled connection that turned out to
    /// be closed counts here too: nobody can tell whether the server had read the request before it closed.
    Sent {
        /// Whether all of the body is still there to be sent again.
        body_kept: bool,
        /// Whether the connection had been used before: then the server may just have been about to close it.
        reused: bool,
    },
    /// Part of the answer went out to the client.
    Answering,
}

/// Whether to try again: not when the next attempt could not even begin before the deadline. `is_keyed` is whether the request names a key under which its server repeats nothing. The server's health is told of connections that could not be opened.
pub(crate) fn decide(
    notes: &mut DispatchNotes,
    method: &Method,
    is_keyed: bool,
    failure: Failure,
    progress: Progress,
) -> bool {
    let Some(pool) = notes.pool.clone() else { return false };
    if let (true, Some(ticket)) = (failure.is_of_upstream(), &notes.ticket) {
        pool.note_outcome(&ticket.endpoint, false);
    }
    if let (Failure::Connect, Some(ticket)) = (failure, &notes.ticket)
        && let Some(healthy) = ticket.endpoint.health.report(false)
    {
        tracing::warn!(upstream = %pool.name, endpoint = %ticket.endpoint.label, healthy, "endpoint health changed");
    }
    let repeats_late = pool.per_try().is_some();
    if !repeatable(method.is_idempotent() || is_keyed, repeats_late, failure, progress) {
        return false;
    }
    let pause = pool.backoff_max(notes.attempts);
    if notes.deadline.is_some_and(|deadline| deadline.is_over() || deadline.left() <= pause) {
        return false;
    }
    if matches!(progress, Progress::Sent { reused: true, .. }) {
        pool.forget_tried(&mut notes.tried);
    }
    pool.may_retry(notes.attempts, notes.tried)
}

/// What a server has not seen may always be sent again; what it may have seen, only when its method says that twice is as
/// good as once (RFC 9110 §9.2.2).
fn repeatable(idempotent: bool, repeats_late: bool, failure: Failure, progress: Progress) -> bool {
    match failure {
        Failure::Client
        | Failure::ClientSlow
        | Failure::ClientProtocol
        | Failure::Refused(_)
        | Failure::Deadline
        | Failure::Internal => return false,
        Failure::Connect | Failure::Timeout | Failure::Broken | Failure::Protocol => {}
    }
    match progress {
        Progress::NotConnected => true,
        // A server that is slow is not helped by a second one doing the same work, unless that is what was asked for.
        Progress::Sent { body_kept, .. } => (failure != Failure::Timeout || repeats_late) && body_kept && idempotent,
        Progress::Answering => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_repeated_is() {
        let sent = Progress::Sent { body_kept: true, reused: true };
        let lost = Progress::Sent { body_kept: false, reused: true };
        for (method, failure, progress, expected) in [
            (Method::POST, Failure::Connect, Progress::NotConnected, true),
            (Method::GET, Failure::Connect, Progress::NotConnected, true),
            (Method::GET, Failure::Broken, sent, true),
            (Method::PUT, Failure::Broken, sent, true),
            (Method::PUT, Failure::Broken, lost, false),
            (Method::POST, Failure::Broken, sent, false),
            (Method::GET, Failure::Timeout, sent, false),
            (Method::GET, Failure::Protocol, sent, true),
            (Method::GET, Failure::Broken, Progress::Answering, false),
            (Method::GET, Failure::Client, sent, false),
            (Method::GET, Failure::Refused(413), sent, false),
            (Method::GET, Failure::Deadline, Progress::NotConnected, false),
        ] {
            assert_eq!(
                repeatable(method.is_idempotent(), false, failure, progress),
                expected,
                "{method} {failure:?} {progress:?}"
            );
        }
    }
}
