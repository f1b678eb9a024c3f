//! Body: count what passes, and stop what is too large.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use common::code::Code;

use crate::base::refusal::Refusal;
use crate::stages::context::DispatchNotes;
use crate::stages::plan::{BodyPace, Route};

/// Counts one piece of the request's body.
///
/// # Errors
/// 413 when the sum is over the route's limit: only bodies without an announced length get so far. 408 when it comes so slowly
/// that it is rather meant to hold a place.
pub(crate) fn count(route: &Route, pace: BodyPace, notes: &mut DispatchNotes, bytes: usize) -> Result<(), Refusal> {
    notes.body_bytes = notes.body_bytes.saturating_add(bytes as u64);
    let now_ns = SystemClock.steady_ns();
    let began_ns = *notes.body_began_ns.get_or_insert(now_ns);
    let took = Duration::from_nanos(now_ns.saturating_sub(began_ns));
    if took > pace.grace && notes.body_bytes < pace.bytes_per_second_min.saturating_mul(took.as_secs().max(1)) {
        let least = pace.bytes_per_second_min;
        return Err(Refusal::new(Code::RequestTimeout).detail(format!("at least {least} bytes a second")));
    }
    if notes.body_bytes > route.body_bytes_max {
        return Err(Refusal::new(Code::BodyTooLarge).detail(format!("at most {} bytes", route.body_bytes_max)));
    }
    Ok(())
}
