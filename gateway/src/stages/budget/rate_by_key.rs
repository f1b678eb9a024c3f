//! Rate by API key or by subject: what one caller may ask, wherever the requests come from.

use crate::base::refusal::Refusal;
use crate::config::checked::LimitKey;
use crate::stages::auth::authorize::Permit;
use crate::stages::context::Now;
use crate::stages::plan::{Route, Spent};

/// Spends one unit of each limit by identity that the route names.
///
/// # Errors
/// 429 with the limit's name.
pub(crate) fn spend(permit: &Permit, route: &Route, now: Now, spent: &mut Vec<Spent>) -> Result<(), Refusal> {
    let Some(identity) = permit.identity() else { return Ok(()) };
    for limit in &route.limits_by_identity {
        let key = match limit.by {
            LimitKey::KeyOrSubject => &*identity.limit_key,
            // Limits by address were spent at admission; none is in this list.
            LimitKey::Subject | LimitKey::ClientIp => &*identity.subject,
        };
        limit.spend(key.as_bytes(), now, spent)?;
    }
    Ok(())
}
