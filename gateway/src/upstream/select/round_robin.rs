//! Round robin: one endpoint after the other, in a circle, past those that may not be asked.

use std::sync::Arc;

use crate::upstream::pool::{Endpoint, Tried};

/// The first endpoint from `turn` on, in a circle, that may be asked.
pub(in crate::upstream) fn round_robin(endpoints: &[Arc<Endpoint>], turn: usize, tried: Tried) -> Option<usize> {
    let count = endpoints.len();
    (0..count)
        .map(|step| (turn.wrapping_add(step)) % count)
        .find(|index| endpoints.get(*index).is_some_and(|endpoint| endpoint.is_fit()) && !tried.contains(*index))
}
