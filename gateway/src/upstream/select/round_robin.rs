//! Round robin: one endpoint after the other, smoothly by weight, past those that may not be asked.

use std::sync::Arc;

use super::Choice;
use crate::upstream::endpoint::Endpoint;

/// The first endpoint from this turn on that may be asked. One that starts slowly lets others go first, as often as its share
/// says; when nobody else is there, it goes all the same.
pub(in crate::upstream) fn round_robin<'m>(choice: &Choice<'m>) -> Option<&'m Arc<Endpoint>> {
    let members = choice.members;
    let count = members.turns.len();
    let order = (0..count).map(|step| choice.turn.wrapping_add(step) % count);
    let mut order = order.filter_map(|turn| {
        let endpoint = members.endpoints.get(usize::from(*members.turns.get(turn)?))?;
        choice.may_ask(endpoint).then_some(endpoint)
    });
    let first = order.next()?;
    let is_ready = |endpoint: &Endpoint| {
        let share = endpoint.share(choice.slow_start, choice.now_ns);
        share >= 1.0 || rand::random::<f64>() < share
    };
    if is_ready(first) {
        return Some(first);
    }
    order.find(|endpoint| is_ready(endpoint)).or(Some(first))
}
