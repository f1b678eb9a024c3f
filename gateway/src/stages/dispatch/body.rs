//! Body: count what passes, and stop what is too large.

use common::code::Code;

use crate::base::refusal::Refusal;
use crate::stages::context::DispatchNotes;
use crate::stages::plan::Route;

/// Counts one piece of the request's body.
///
/// # Errors
/// 413 when the sum is over the route's limit. Only bodies without an announced length get here.
pub(crate) fn count(route: &Route, notes: &mut DispatchNotes, bytes: usize) -> Result<(), Refusal> {
    notes.body_bytes = notes.body_bytes.saturating_add(bytes as u64);
    if notes.body_bytes > route.body_bytes_max {
        return Err(Refusal::new(Code::BodyTooLarge).detail(format!("at most {} bytes", route.body_bytes_max)));
    }
    Ok(())
}
