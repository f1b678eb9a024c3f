//! Select: whose turn is it?
//!
//! For: one function a way of choosing. May touch: the endpoints' counters. Promises: only endpoints that are fit and
//! untried; no lock, no allocation.

mod hashed;
mod round_robin;
mod two_choices;

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::members::Members;
use super::pool::Tried;

pub(crate) use hashed::draw;
pub(super) use hashed::hashed;
pub(super) use round_robin::round_robin;
pub(super) use two_choices::{least_requests, peak_ewma};

/// What a choice is made by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub members: &'a Members,
    /// Counts up with every choice.
    pub turn: usize,
    pub tried: Tried,
    pub slow_start: Option<Duration>,
    pub now_ns: u64,
    /// Whether everybody counts as fit, because too few are.
    pub panic: bool,
}

impl Choice<'_> {
    /// Whether an endpoint may be asked.
    fn may_ask(&self, endpoint: &Endpoint) -> bool {
        !self.tried.contains(endpoint.hash) && (self.panic || endpoint.is_fit(self.now_ns))
    }

    fn share(&self, endpoint: &Endpoint) -> f64 {
        f64::from(endpoint.weight) * endpoint.share(self.slow_start, self.now_ns)
    }
}

/// The endpoint with this hash, if it may be asked.
pub(super) fn with_hash<'m>(choice: &Choice<'m>, hash: u64) -> Option<&'m Arc<Endpoint>> {
    choice.members.endpoints.iter().find(|endpoint| endpoint.hash == hash && choice.may_ask(endpoint))
}

/// A number made from bytes, the same in every gateway of one release.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
