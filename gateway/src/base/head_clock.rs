//! Head clock: a request's head must be complete within a time, however slowly its bytes drip.
//!
//! For: HTTP/1.1 connections. Pingora bounds each read, so one byte a minute would hold a connection for ever (slowloris).
//! The socket knows when bytes arrive, the proxy knows when a head is complete; this is what they share, by way of
//! `connection_notes.rs`.
//! Promises: an idle connection is not on the clock, and what is left of a body behind its answer does not set it going; on
//! HTTP/2, where heads are frames, the clock never runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};

/// A clock that stands still: odd, so that no head is awaited.
const STOPPED: u32 = u32::MAX;

/// The clock of a connection. An HTTP/1.1 connection has one request at a time, so plain loads and stores do.
#[derive(Debug)]
pub(crate) struct HeadClock {
    /// Counts heads: even while one is awaited, odd while a request is under way.
    heads: AtomicU32,
    /// Until when what comes may be left of a body, in steady nanoseconds; 0 where nothing is.
    body_until_ns: AtomicU64,
}

/// The head that is awaited, told from the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AwaitedHead(u32);

impl HeadClock {
    /// A clock that stands still until `run` is called.
    pub(crate) fn stopped() -> Self {
        Self { heads: AtomicU32::new(STOPPED), body_until_ns: AtomicU64::new(0) }
    }

    /// The first head is awaited from now on.
    pub(crate) fn run(&self) {
        self.heads.store(0, Ordering::Relaxed);
    }

    /// The head is complete.
    pub(crate) fn head_read(&self) {
        let count = self.heads.load(Ordering::Relaxed);
        if count.is_multiple_of(2) {
            self.heads.store(count + 1, Ordering::Relaxed);
            self.body_until_ns.store(0, Ordering::Relaxed);
        }
    }

    /// The request is answered, and what is left of its body is read and thrown away, for so long at most. A head that begins
    /// meanwhile has this much more time.
    pub(crate) fn body_follows(&self, at_most: Duration) {
        let at_most_ns = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        self.body_until_ns.store(SystemClock.steady_ns().saturating_add(at_most_ns), Ordering::Relaxed);
    }

    /// Whether what comes may be left of a body.
    pub(crate) fn may_be_body(&self) -> bool {
        let until_ns = self.body_until_ns.load(Ordering::Relaxed);
        until_ns != 0 && SystemClock.steady_ns() < until_ns
    }

    /// The request is over; the next head is awaited.
    pub(crate) fn request_over(&self) {
        let count = self.heads.load(Ordering::Relaxed);
        if !count.is_multiple_of(2) && count != STOPPED {
            self.heads.store((count + 1) % (STOPPED - 1), Ordering::Relaxed);
        }
    }

    /// Which head is awaited now, if any.
    pub(crate) fn awaited(&self) -> Option<AwaitedHead> {
        let count = self.heads.load(Ordering::Relaxed);
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

    #[test]
    fn what_is_left_of_a_body_is_told_from_a_head_for_a_time() {
        let clock = HeadClock::stopped();
        clock.run();
        let minute = Duration::from_mins(1);
        for (at_most, is_body) in [(Some(minute), true), (Some(Duration::ZERO), false), (None, false)] {
            clock.head_read();
            if let Some(at_most) = at_most {
                clock.body_follows(at_most);
            }
            clock.request_over();
            assert!(clock.awaited().is_some());
            assert_eq!(clock.may_be_body(), is_body, "{at_most:?}");
        }
    }
}
