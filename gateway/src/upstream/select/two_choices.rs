//! Two choices: of two endpoints at random, the better one.
//!
//! Looking at all of them would send every gateway to the same idle one at the same moment; two at random spread just as well
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").

use std::sync::Arc;

use super::Choice;
use crate::upstream::endpoint::Endpoint;

/// The one with fewer requests in flight for its share.
pub(in crate::upstream) fn least_requests<'m>(choice: &Choice<'m>) -> Option<&'m Arc<Endpoint>> {
    better_of_two(choice, |endpoint| f64::from(endpoint.in_flight() + 1) / choice.share(endpoint))
}

/// The one that is likely to answer first, for its share.
pub(in crate::upstream) fn peak_ewma<'m>(choice: &Choice<'m>) -> Option<&'m Arc<Endpoint>> {
    better_of_two(choice, |endpoint| endpoint.expected_ns() / choice.share(endpoint))
}

fn better_of_two<'m>(choice: &Choice<'m>, cost: impl Fn(&Endpoint) -> f64) -> Option<&'m Arc<Endpoint>> {
    let endpoints = &choice.members.endpoints;
    let candidates = || endpoints.iter().filter(|endpoint| choice.may_ask(endpoint));
    let count = candidates().count();
    let (first, second) = match count {
        0 => return None,
        1 => return candidates().next(),
        // With two there is nothing to draw but the order, which decides between equals.
        2 => (choice.turn % 2, 1 - choice.turn % 2),
        _ => {
            let first = rand::random_range(0..count);
            let other = rand::random_range(0..count - 1);
            (first, if other >= first { other + 1 } else { other })
        }
    };
    // Somebody may have become unfit since they were counted.
    let first = candidates().nth(first)?;
    let Some(second) = candidates().nth(second) else { return Some(first) };
    Some(if cost(second) < cost(first) { second } else { first })
}
