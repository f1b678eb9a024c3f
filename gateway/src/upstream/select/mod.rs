//! Select: whose turn is it?
//!
//! For: one function a way of choosing. May touch: the endpoints' counters. Promises: only endpoints that are fit and
//! untried; no lock, no allocation.

mod least_requests;
mod round_robin;

pub(super) use least_requests::least_requests;
pub(super) use round_robin::round_robin;
