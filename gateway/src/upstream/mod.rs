//! Upstream: where to?
//!
//! For: the servers behind a name, who of them is fit, whose turn it is, and how often a request may be tried again.
//! May touch: the network, for health checks only. Promises: a pick takes no lock; an endpoint that is not fit gets no
//! request; what was picked is given back when the ticket drops, however the request ended.
//! Pingora's types stay in `peer.rs`. Read next: `pool.rs`.

pub(crate) mod health;
pub(crate) mod peer;
pub(crate) mod pool;
mod retry_budget;
mod select;
pub(crate) mod trust;
