//! The one with the fewest requests in flight. All are looked at: a pool has 64 targets at most.

use std::sync::Arc;

use crate::upstream::pool::{Endpoint, Tried};

/// The least busy endpoint that may be asked; among equals the first from `turn` on, so that they share.
pub(in crate::upstream) fn least_requests(endpoints: &[Arc<Endpoint>], turn: usize, tried: Tried) -> Option<usize> {
    let count = endpoints.len();
    let candidates = (0..count).map(|step| turn.wrapping_add(step) % count).filter_map(|index| {
        let endpoint = endpoints.get(index)?;
        (endpoint.is_fit() && !tried.contains(index)).then(|| (endpoint.in_flight(), index))
    });
    // `min_by_key` keeps the first of equals.
    candidates.min_by_key(|(in_flight, _)| *in_flight).map(|(_, index)| index)
}
