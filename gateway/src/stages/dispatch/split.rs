//! Split: which of several upstreams a route asks, in shares.
//!
//! For: canaries and slow moves. May touch: nothing but chance. Promises: chosen once a request, without a lock and without
//! memory; a key leads to the same side in every gateway of one release, and when a weight changes only as many callers move as
//! the shares do.

use std::sync::Arc;

use prometheus::IntCounter;

use crate::config::checked::HashBy;
use crate::upstream::pool::Pool;
use crate::upstream::select::{draw, hash};

/// Who is asked, at least one.
#[derive(Debug)]
pub(crate) struct Split {
    sides: Box<[Side]>,
    by: Option<HashBy>,
    weights: u32,
}

/// One of those who are asked.
#[derive(Debug)]
pub(crate) struct Side {
    pub pool: Arc<Pool>,
    pub weight: u16,
    /// A number made from its name.
    hash: u64,
    /// Requests that it got.
    pub requests: IntCounter,
}

impl Side {
    pub(crate) fn new(pool: Arc<Pool>, weight: u16, requests: IntCounter) -> Self {
        Self { hash: hash(pool.name.as_bytes()), pool, weight, requests }
    }
}

impl Split {
    pub(crate) fn new(sides: Vec<Side>, by: Option<HashBy>) -> Self {
        let weights = sides.iter().map(|side| u32::from(side.weight)).sum();
        Self { sides: sides.into(), by, weights }
    }

    /// Who is asked.
    pub(crate) fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// What tells callers apart; `None` where there is nothing to tell.
    pub(crate) fn by(&self) -> Option<&HashBy> {
        self.by.as_ref().filter(|_| self.sides.len() > 1)
    }

    /// The side for a caller; drawn for where there is no key.
    pub(crate) fn choose(&self, key: Option<u64>) -> Option<&Side> {
        if let [only] = &*self.sides {
            return Some(only);
        }
        let shares = self.sides.iter().map(|side| (side.hash, side.weight));
        let chosen = match key {
            Some(key) => by_key(shares, key),
            None => by_lot(shares, rand::random_range(0..self.weights.max(1))),
        };
        self.sides.get(chosen?)
    }
}

/// The side whose share holds this number, counted from 0.
fn by_lot(shares: impl Iterator<Item = (u64, u16)>, mut number: u32) -> Option<usize> {
    for (index, (_, weight)) in shares.enumerate() {
        match number.checked_sub(u32::from(weight)) {
            Some(rest) => number = rest,
            None => return Some(index),
        }
    }
    None
}

/// The side that draws the highest number for a key (rendezvous hashing): a changed weight moves only those callers for whom
/// another side is now the highest.
fn by_key(shares: impl Iterator<Item = (u64, u16)>, key: u64) -> Option<usize> {
    let drawn = shares.enumerate().filter(|(_, (_, weight))| *weight > 0);
    let drawn = drawn.map(|(index, (hash, weight))| (index, draw(key, hash, weight)));
    drawn.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Callers enough that a share is off by less than a hundredth.
    const CALLERS: u64 = 40_000;

    fn shares(weights: &[u16]) -> Vec<(u64, u16)> {
        weights.iter().enumerate().map(|(index, weight)| (hash(&index.to_be_bytes()), *weight)).collect()
    }

    fn sides(weights: &[u16]) -> Vec<usize> {
        let side = |caller: u64| by_key(shares(weights).into_iter(), hash(&caller.to_be_bytes())).expect("a side");
        (0..CALLERS).map(side).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn share_of(count: usize) -> f64 {
        count as f64 / CALLERS as f64
    }

    #[test]
    fn every_number_falls_into_one_share() {
        let weights = [3, 0, 1];
        let chosen: Vec<_> = (0..4).map(|number| by_lot(shares(&weights).into_iter(), number)).collect();
        assert_eq!(chosen, [Some(0), Some(0), Some(0), Some(2)]);
        assert_eq!(by_lot(shares(&weights).into_iter(), 4), None);
    }

    #[test]
    fn callers_spread_by_weight_and_move_only_as_the_shares_do() {
        let before = sides(&[95, 5]);
        let canary = before.iter().filter(|side| **side == 1).count();
        assert!((share_of(canary) - 0.05).abs() < 0.01, "{canary}");
        let after = sides(&[80, 20]);
        let canary = after.iter().filter(|side| **side == 1).count();
        assert!((share_of(canary) - 0.20).abs() < 0.01, "{canary}");
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || (*before, *after) == (0, 1), "nobody leaves the side that has grown");
        }
        assert!(sides(&[1, 0]).iter().all(|side| *side == 0), "no weight, no request");
    }

    proptest! {
        #[test]
        fn a_side_that_grows_only_gains(
            weights in proptest::collection::vec(0_u16..100, 2..5),
            grows in 0_usize..5,
            key in any::<u64>(),
        ) {
            let grows = grows % weights.len();
            let mut grown = weights.clone();
            grown[grows] += 10;
            let before = by_key(shares(&weights).into_iter(), key);
            let after = by_key(shares(&grown).into_iter(), key);
            prop_assert!(before == after || after == Some(grows), "{before:?} {after:?}");
            prop_assert!(after.is_some_and(|after| grown[after] > 0));
        }
    }
}
