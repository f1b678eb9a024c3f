//! Size: a body that says it is too large is refused before any of it is read.

use common::code::Code;
use http::header::CONTENT_LENGTH;

use crate::base::head::Head;
use crate::base::refusal::Refusal;
use crate::stages::plan::Route;

/// Checks the announced length. A body without one is counted while it passes (see `dispatch::body`).
///
/// # Errors
/// 413.
pub(crate) fn check(head: &Head<'_>, route: &Route) -> Result<(), Refusal> {
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    // Sanity has made sure that it is a number; one too large for us is too large for any route.
    let bytes = announced.map_or(0, |length| length.parse().unwrap_or(u64::MAX));
    if bytes > route.body_bytes_max {
        return Err(Refusal::new(Code::BodyTooLarge).detail(format!("at most {} bytes", route.body_bytes_max)));
    }
    Ok(())
}
