//! Concurrency: so many at a time. A place is held from the request's admission to its last byte.

use std::sync::Arc;

use super::keyed::{KeyId, Keyed, Standpoint, State};
use crate::base::now::Now;

/// One limit and the places held by all its keys.
#[derive(Debug)]
pub(crate) struct ConcurrencyMeter {
    places: u32,
    held: Keyed<Held>,
}

/// Places held by a key.
#[derive(Clone, Copy, Debug, Default)]
struct Held(u32);

impl State for Held {
    fn is_spent(&self, _now: Now) -> bool {
        self.0 == 0
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    meter: Arc<ConcurrencyMeter>,
    id: KeyId,
    at: Standpoint,
}

impl ConcurrencyMeter {
    /// A limit whose state never exceeds about `keys_max` keys (48 bytes each).
    pub(crate) fn new(places: u32, keys_max: usize) -> Self {
        Self { places, held: Keyed::new(keys_max) }
    }

    pub(crate) fn places(&self) -> u32 {
        self.places
    }

    /// The key made of these parts.
    pub(crate) fn id(&self, parts: &[&[u8]]) -> KeyId {
        self.held.id(parts)
    }

    /// Takes a place, and says how many are left; `None` when all are held.
    pub(crate) fn take(self: &Arc<Self>, id: KeyId, now: Now) -> Option<(Place, u32)> {
        self.held.with(id, now, |held, at| {
            let left = self.places.checked_sub(held.0 + 1)?;
            held.0 += 1;
            Some((Place { meter: Arc::clone(self), id, at }, left))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A key with a place is never forgotten, so its state is there.
        self.meter.held.with_known(self.id, self.at, |held| held.0 = held.0.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_held_and_given_back_where_they_were_taken() {
        let now = Now { steady_ns: 1, unix_seconds: 1 };
        // One key a shard: the second key of a shard shares the overflow.
        let meter = Arc::new(ConcurrencyMeter::new(2, 1));
        let keys: Vec<_> = (0..1000_u32).map(|number| meter.id(&[&number.to_be_bytes()])).collect();
        let held: Vec<_> = keys.iter().filter_map(|id| meter.take(*id, now)).map(|(place, _)| place).collect();
        assert!(
            held.len() >= 64 && held.len() <= 3 * 64,
            "one in each shard's table, two in its overflow: {}",
            held.len()
        );
        drop(held);
        let id = meter.id(&[b"a"]);
        let (first, left) = meter.take(id, now).expect("a place");
        assert_eq!(left, 1);
        let second = meter.take(id, now).expect("a place");
        assert!(meter.take(id, now).is_none());
        drop(first);
        assert!(meter.take(id, now).is_some(), "the place was given back");
        drop(second);
    }
}
