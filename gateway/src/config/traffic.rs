//! Traffic, checked: who is asked in which share, who gets copies, and how long all of it may take.
//!
//! For: names resolved to positions. May touch: nothing. Promises: a split has at least one side with a weight.
//! Read next: `check_traffic.rs` for what holds, `stages/dispatch/` for who does it.

use std::time::Duration;

use super::targets::HashBy;

/// Who is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    /// At least one.
    pub sides: Vec<Side>,
    /// What tells callers apart; `None` where each request is drawn for by itself.
    pub by: Option<HashBy>,
}

/// One of those who are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    /// Position in `Config::upstreams`.
    pub upstream: usize,
    pub weight: u16,
}

impl Split {
    /// One upstream gets everything.
    pub(crate) fn whole(upstream: usize) -> Self {
        Self { sides: vec![Side { upstream, weight: 1 }], by: None }
    }
}

/// Who gets copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// Position in `Config::upstreams`.
    pub upstream: usize,
    /// From 0 to 100.
    pub share_percent: u8,
    pub body_bytes_max: usize,
    pub in_flight_max: usize,
    pub timeout: Duration,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadlineRule {
    /// From its head on.
    pub after: Duration,
    /// Whether it holds only until the head of the answer is there.
    pub until_head: bool,
}
