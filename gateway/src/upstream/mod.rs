//! Upstream: where to?
//!
//! For: the servers behind a name and where to find them, who of them is fit, whose turn it is, how many requests they get, and
//! how often one may be tried again. May touch: the network, for health checks, names and the API server of Kubernetes; a file of addresses. Promises: a pick takes no lock; an endpoint that is not fit gets no
//! request; what was picked is given back when the ticket drops, however the request ended.
//! Pingora's types stay in `peer.rs`, `dial.rs`, `tunnel.rs` and `heartbeat.rs`. Read next: `pool.rs`.

mod dial;
pub(crate) mod discover;
mod ejection;
pub(crate) mod endpoint;
mod event_stream;
pub(crate) mod gate;
pub(crate) mod health;
mod heartbeat;
mod members;
pub(crate) mod peer;
pub(crate) mod pool;
mod retry_budget;
pub(crate) mod select;
pub(crate) mod trust;
mod tunnel;
