//! Limits, told to the client: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
//!
//! For: both fields as structured-field lists (RFC 9651), one item a limit. Names of limits are checked at load, so they
//! are strings without escapes. Promises: `t` is never too short: who waits it out finds at least one unit.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::base::reply::whole_seconds;
use crate::config::checked;
use crate::stages::dispatch::forward::HeaderSink;
use crate::stages::plan::{Route, Spent};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// `"per_ip";q=100;w=60, …`: so many in so many seconds. `None` without limits.
pub(crate) fn policy<'a>(limits: impl Iterator<Item = &'a checked::Limit>) -> Option<HeaderValue> {
    let mut text = String::new();
    for limit in limits {
        separate(&mut text);
        // Writing to a String cannot fail.
        let _ = write!(text, "\"{}\";q={};w={}", limit.name, limit.rate.count, limit.rate.period.as_secs());
    }
    if text.is_empty() { None } else { HeaderValue::from_str(&text).ok() }
}

/// Sets both fields on an answer. A request that was refused before its limits were asked has nothing to tell.
pub(crate) fn tell(route: Option<&Arc<Route>>, spent: &[Spent], sink: &mut impl HeaderSink) {
    let policy = route.and_then(|route| route.limit_policy.as_ref());
    let (Some(policy), false) = (policy, spent.is_empty()) else { return };
    if let Ok(state) = HeaderValue::from_str(&state(spent)) {
        sink.set(RATE_LIMIT, state);
        sink.set(RATE_LIMIT_POLICY, policy.clone());
    }
}

/// `"per_ip";r=42;t=35, …`: so many are left, and all are there again in so many seconds.
fn state(spent: &[Spent]) -> String {
    let mut text = String::with_capacity(32 * spent.len());
    for Spent { limit, remaining, reset_after } in spent {
        separate(&mut text);
        // Writing to a String cannot fail.
        let _ = write!(text, "\"{}\";r={remaining};t={}", limit.name, whole_seconds(*reset_after));
    }
    text
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}
