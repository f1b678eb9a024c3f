//! Members: the servers of an upstream at a moment, with the order of their turns.

use std::sync::Arc;

use super::endpoint::Endpoint;

/// The servers, never changed: another set replaces it whole.
#[derive(Debug)]
pub(super) struct Members {
    pub endpoints: Box<[Arc<Endpoint>]>,
    /// Whose turn it is, by position: as often as its weight says, and as evenly as can be.
    pub turns: Box<[u16]>,
}

impl Members {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        let turns = turns(&endpoints.iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>());
        Self { endpoints: endpoints.into(), turns }
    }
}

/// The smooth order of weighted turns, as nginx makes it: each step everybody gains its weight, the richest goes and pays the
/// sum. Made once, so that a pick only counts up.
fn turns(weights: &[u16]) -> Box<[u16]> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let sum: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut order = Vec::new();
    for _ in 0..sum {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        // Of equals the first.
        let richest =
            credit.iter().enumerate().rev().max_by_key(|(_, credit)| **credit).map_or(0, |(index, _)| index);
        if let Some(credit) = credit.get_mut(richest) {
            *credit -= sum;
        }
        order.push(u16::try_from(richest).unwrap_or(u16::MAX));
    }
    order.into()
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_even_and_as_many_as_the_weights_say() {
        assert_eq!(*turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(*turns(&[10, 10]), [0, 1]);
        assert_eq!(*turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert!(turns(&[]).is_empty());
        let many = turns(&[7, 3, 100]);
        assert_eq!([0, 1, 2].map(|wanted| many.iter().filter(|turn| **turn == wanted).count()), [7, 3, 100]);
    }
}
