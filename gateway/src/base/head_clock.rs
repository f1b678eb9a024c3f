//! Head clock: a request's head must be complete within a time, however slowly its bytes drip.
//!
//! For: HTTP/1.1 connections. Pingora bounds each read, so one byte a minute would hold a connection for ever (slowloris).
//! The socket knows when bytes arrive, the proxy knows when a head is complete; this is what they share, by way of
//! `connection_notes.rs`.
//! Promises: an idle connection is not on the clock; on HTTP/2, where heads are frames, the clock never runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A clock that stands still: odd, so that no head is awaited.
const STOPPED: u32 = u32::MAX;

/// Counts a connection's heads: even while one is awaited, odd while a request is under way. An HTTP/1.1 connection has one
/// request at a time, so plain loads and stores do.
#[derive(Clone, Debug)]
pub(crate) struct HeadClock(Arc<AtomicU32>);

/// The head that is awaited, told from the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AwaitedHead(u32);

impl HeadClock {
    /// A clock that stands still until `run` is called.
    pub(crate) fn stopped() -> Self {
        Self(Arc::new(AtomicU32::new(STOPPED)))
    }

    /// The first head is awaited from now on.
    pub(crate) fn run(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The head is complete.
    pub(crate) fn head_read(&self) {
        let count = self.0.load(Ordering::Relaxed);
        if count.is_multiple_of(2) {
            self.0.store(count + 1, Ordering::Relaxed);
        }
    }

    /// The request is over; the next head is awaited.
    pub(crate) fn request_over(&self) {
        let count = self.0.load(Ordering::Relaxed);
        if !count.is_multiple_of(2) && count != STOPPED {
            self.0.store((count + 1) % (STOPPED - 1), Ordering::Relaxed);
        }
    }

    /// Which head is awaited now, if any.
    pub(crate) fn awaited(&self) -> Option<AwaitedHead> {
        let count = self.0.load(Ordering::Relaxed);
        count.is_multiple_of(2).then_some(AwaitedHead(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_head_is_another_and_none_is_awaited_during_a_request() {
        let clock = HeadClock::stopped();
        clock.head_read();
        clock.request_over();
        assert_eq!(clock.awaited(), None, "a stopped clock stands still");
        clock.run();
        let first = clock.awaited();
        clock.head_read();
        clock.head_read();
        assert_eq!(clock.awaited(), None);
        clock.request_over();
        clock.request_over();
        assert!(first.is_some() && clock.awaited().is_some() && clock.awaited() != first);
    }
}
