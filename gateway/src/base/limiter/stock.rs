//! Stock: units that were paid for elsewhere and wait to be used, for a short time.

use super::keyed::{KeyId, Keyed, State};
use crate::base::now::Now;

/// The stocks of all keys of one limit. A key's id is that of the limit's own meter.
#[derive(Debug)]
pub(crate) struct Stocks {
    stocks: Keyed<Stock>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stock {
    units: u64,
    good_until_ns: u64,
}

impl State for Stock {
    fn is_spent(&self, now: Now) -> bool {
        self.units == 0 || self.good_until_ns <= now.steady_ns
    }
}

impl Stocks {
    /// Stocks of at most about `keys_max` keys (64 bytes each).
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { stocks: Keyed::new(keys_max) }
    }

    /// Uses units, if so many are there and still good.
    pub(crate) fn take(&self, id: KeyId, units: u64, now: Now) -> bool {
        self.stocks.with(id, now, |stock, _| {
            let there = stock.good_until_ns > now.steady_ns && stock.units >= units;
            if there {
                stock.units -= units;
            }
            there
        })
    }

    /// Lays units in, good for so many nanoseconds. Those that are no longer good are thrown away.
    pub(crate) fn put(&self, id: KeyId, units: u64, good_for_ns: u64, now: Now) {
        self.stocks.with(id, now, |stock, _| {
            let left = if stock.good_until_ns > now.steady_ns { stock.units } else { 0 };
            *stock =
                Stock { units: left.saturating_add(units), good_until_ns: now.steady_ns.saturating_add(good_for_ns) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_is_used_once_and_goes_bad() {
        let at = |steady_ns| Now { steady_ns, unix_seconds: 0 };
        let stocks = Stocks::new(10);
        let id = stocks.stocks.id(&[b"a"]);
        assert!(!stocks.take(id, 1, at(5)), "nothing was laid in");
        stocks.put(id, 3, 100, at(10));
        assert!(stocks.take(id, 2, at(20)) && !stocks.take(id, 2, at(21)) && stocks.take(id, 1, at(22)));
        stocks.put(id, 3, 100, at(30));
        assert!(!stocks.take(id, 1, at(130)), "it is good for a hundred nanoseconds only");
    }
}
