//! Egress (F): the answer goes out.
//!
//! For: headers of an upstream's answer, and the refusal that stands in for an answer that did not come.
//! May touch: response headers through `HeaderSink`. Promises: a field that was meant for one connection goes no further;
//! a failure of an upstream is told in our words, not in its. Read next: `failure.rs`.

pub(crate) mod compress;
pub(crate) mod cors;
pub(crate) mod failure;
pub(crate) mod headers;
pub(crate) mod limits;
pub(crate) mod own;
pub(crate) mod security;
pub(crate) mod sticky;
