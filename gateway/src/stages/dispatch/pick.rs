//! Pick: take a place at a server.

use common::clock::{Clock as _, SystemClock};
use common::code::Code;

use crate::base::refusal::{Advice, Refusal};
use crate::stages::context::DispatchNotes;
use crate::stages::plan::Route;
use crate::upstream::pool::Ticket;

/// Takes a place at a server for the next attempt. The one of the attempt before is given back.
///
/// # Errors
/// 503 when no server is fit, or all that are fit have been tried.
pub(crate) fn pick<'a>(route: &Route, notes: &'a mut DispatchNotes) -> Result<&'a Ticket, Refusal> {
    if notes.attempts == 0 {
        route.pool.count_request();
    }
    notes.ticket = None;
    let Some(ticket) = route.pool.pick(&mut notes.tried) else {
        let advice = Advice::RetryAfter(route.pool.retry_after());
        return Err(Refusal::new(Code::UpstreamUnavailable).policy(&route.pool.name).advice(advice));
    };
    notes.attempts += 1;
    notes.attempt_began_ns = Some(SystemClock.steady_ns());
    notes.body_bytes = 0;
    Ok(notes.ticket.insert(ticket))
}
