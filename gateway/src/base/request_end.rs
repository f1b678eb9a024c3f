//! Request end: until when the request on a connection may go on.
//!
//! For: HTTP/1.1 connections, which have one request at a time. Pingora has no timer for a whole request, but it reads from the client
//! all the while; so the proxy notes the end, and the socket ends that read when it comes, by way of `connection_notes.rs`.
//! Promises: on HTTP/2, where requests share a socket, only `left_open.rs` sets it.

use std::sync::atomic::{AtomicU64, Ordering};

/// No end is set.
const NONE: u64 = u64::MAX;

/// The end of the request under way.
#[derive(Debug)]
pub(crate) struct RequestEnd(AtomicU64);

impl RequestEnd {
    /// No request is under way, or it may take as long as it likes.
    pub(crate) fn none() -> Self {
        Self(AtomicU64::new(NONE))
    }

    /// The request under way ends then, in steady nanoseconds.
    pub(crate) fn set(&self, ends_ns: u64) {
        self.0.store(ends_ns, Ordering::Relaxed);
    }

    /// The request is over, or may go on.
    pub(crate) fn clear(&self) {
        self.0.store(NONE, Ordering::Relaxed);
    }

    /// The end, where one is set, in steady nanoseconds.
    pub(crate) fn ends_ns(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ends_ns| *ends_ns != NONE)
    }
}
