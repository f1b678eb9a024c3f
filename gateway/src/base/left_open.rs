//! Left open: requests of an HTTP/2 connection that are answered as a whole, and whose bodies have not come to an end.
//!
//! For: clients that never end them. Pingora bounds the wait for a piece of a body on HTTP/1.1 alone; on HTTP/2 such a request would
//! hold its place at the upstream as long as the client likes. May touch: the end of `request_end.rs`. Promises: once there has been
//! one of them without a break for the time that it is given, nothing more is read from the connection.

use std::sync::{Mutex, PoisonError};

use super::request_end::RequestEnd;

/// How many there are now.
#[derive(Debug, Default)]
pub(crate) struct LeftOpen(Mutex<u32>);

impl LeftOpen {
    /// One more. If it is the first, the connection has until then, in steady nanoseconds.
    pub(crate) fn add(&self, end: &RequestEnd, ends_ns: u64) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *count == 0 {
            end.set(ends_ns);
        }
        *count = count.saturating_add(1);
    }

    /// One of them is over.
    pub(crate) fn remove(&self, end: &RequestEnd) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if *count == 0 {
            end.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sets_the_end_and_the_last_takes_it_away() {
        let (open, end) = (LeftOpen::default(), RequestEnd::none());
        open.add(&end, 5);
        open.add(&end, 9);
        assert_eq!(end.ends_ns(), Some(5));
        open.remove(&end);
        assert_eq!(end.ends_ns(), Some(5), "there has been one all the while");
        open.remove(&end);
        assert_eq!(end.ends_ns(), None);
        open.add(&end, 9);
        assert_eq!(end.ends_ns(), Some(9));
    }
}
