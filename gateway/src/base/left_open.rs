//! Left open: requests of an HTTP/2 connection that are answered as a whole, and whose bodies have not come to an end.
//!
//! For: clients that never end them. Pingora bounds the wait for a piece of a body on HTTP/1.1 alone; on HTTP/2 such a request would
//! hold its place at the upstream as long as the client likes. May touch: the end of `request_end.rs`. Promises: once nothing has
//! come of one of them for the time that it is given, nothing more is read from the connection; those that come to their end in time
//! never add up to that, however many there are.

use std::sync::{Mutex, PoisonError};

use super::request_end::RequestEnd;

/// Until when each has, in steady nanoseconds. They are as many as a connection may have requests at a time.
#[derive(Debug, Default)]
pub(crate) struct LeftOpen(Mutex<Vec<u64>>);

impl LeftOpen {
    /// One more, which has until then, in steady nanoseconds.
    pub(crate) fn add(&self, end: &RequestEnd, ends_ns: u64) {
        self.change(end, |all| all.push(ends_ns));
    }

    /// Something has come of the one that had until `ends_ns`: it has until `later_ns`.
    pub(crate) fn postpone(&self, end: &RequestEnd, ends_ns: u64, later_ns: u64) {
        self.change(end, |all| {
            if let Some(known) = all.iter_mut().find(|known| **known == ends_ns) {
                *known = later_ns;
            }
        });
    }

    /// The one that had until then is over.
    pub(crate) fn remove(&self, end: &RequestEnd, ends_ns: u64) {
        self.change(end, |all| {
            if let Some(place) = all.iter().position(|known| *known == ends_ns) {
                all.swap_remove(place);
            }
        });
    }

    /// The connection ends with the first of them.
    fn change(&self, end: &RequestEnd, change: impl FnOnce(&mut Vec<u64>)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut all);
        match all.iter().min() {
            Some(first_ns) => end.set(*first_ns),
            None => end.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_ends_with_the_first_that_had_its_time() {
        let (open, end) = (LeftOpen::default(), RequestEnd::none());
        open.add(&end, 5);
        open.add(&end, 9);
        assert_eq!(end.ends_ns(), Some(5));
        open.remove(&end, 5);
        assert_eq!(end.ends_ns(), Some(9), "the other one has its own time");
        open.add(&end, 9);
        open.remove(&end, 9);
        assert_eq!(end.ends_ns(), Some(9), "one of two that had as long");
        open.postpone(&end, 9, 12);
        assert_eq!(end.ends_ns(), Some(12));
        open.postpone(&end, 9, 1);
        assert_eq!(end.ends_ns(), Some(12), "none had until then");
        open.remove(&end, 12);
        assert_eq!(end.ends_ns(), None);
    }
}
