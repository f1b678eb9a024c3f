//! Limits, told to the client: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), and the older
//! `X-RateLimit-*`, each where the configuration says so.
//!
//! For: the fields as structured-field lists (RFC 9651), one item a limit. Names of limits are checked at load, so they
//! are strings without escapes. Numbers are requests: units divided by what a request costs.
//! Promises: `t` is never too short: who waits it out finds at least one request left.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::base::reply::whole_seconds;
use crate::config::checked::{self, Measure};
use crate::stages::dispatch::forward::HeaderSink;
use crate::stages::plan::{Route, Spent};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// `"per_ip";q=100;w=60, …`: so many in so many seconds. `None` without limits, or where all are only watched.
pub(crate) fn policy<'a>(limits: impl Iterator<Item = &'a checked::Limit>) -> Option<HeaderValue> {
    let mut text = String::new();
    for limit in limits.filter(|limit| !limit.shadow) {
        separate(&mut text);
        let cost = limit.cost.max(1);
        // Writing to a String cannot fail.
        let _ = match limit.measure {
            Measure::Rate { rate, .. } => {
                write!(text, "\"{}\";q={};w={}", limit.name, rate.count / cost, rate.period.as_secs())
            }
            Measure::Quota(quota) => {
                write!(text, "\"{}\";q={};w={}", limit.name, quota.count / cost, quota.calendar.nominal_seconds())
            }
            Measure::Concurrent(places) => {
                write!(text, "\"{}\";q={places};qu=\"concurrent-requests\"", limit.name)
            }
        };
    }
    if text.is_empty() { None } else { HeaderValue::from_str(&text).ok() }
}

/// Sets the fields on an answer. A request that was refused before its limits were asked has nothing to tell.
pub(crate) fn tell(route: Option<&Arc<Route>>, spent: &[Spent], sink: &mut impl HeaderSink) {
    let policy = route.and_then(|route| route.limit_policy.as_ref().zip(Some(route.limit_headers)));
    let (Some((policy, headers)), false) = (policy, spent.is_empty()) else { return };
    if headers.standard
        && let Ok(state) = HeaderValue::from_str(&state(spent))
    {
        sink.set(RATE_LIMIT, state);
        sink.set(RATE_LIMIT_POLICY, policy.clone());
    }
    if headers.legacy
        && let Some(tightest) = spent.iter().min_by_key(|spent| spent.standing.remaining)
    {
        sink.set(X_RATE_LIMIT_LIMIT, HeaderValue::from(tightest.limit.at_once()));
        sink.set(X_RATE_LIMIT_REMAINING, HeaderValue::from(tightest.standing.remaining));
        sink.set(X_RATE_LIMIT_RESET, HeaderValue::from(whole_seconds(tightest.standing.reset_after)));
    }
}

/// `"per_ip";r=42;t=35, …`: so many are left, and all are there again in so many seconds.
fn state(spent: &[Spent]) -> String {
    let mut text = String::with_capacity(32 * spent.len());
    for Spent { limit, standing, .. } in spent {
        separate(&mut text);
        // Writing to a String cannot fail.
        let _ = write!(text, "\"{}\";r={};t={}", limit.name, standing.remaining, whole_seconds(standing.reset_after));
    }
    text
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}
