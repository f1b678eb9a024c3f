//! Base: the ground floor. Knows no room above it.
//!
//! For: what every room needs in the same form: the head of a request, refusals and the one table that turns them into
//! HTTP, limits held in memory, metrics and the access log. May touch: the standard library, HTTP types, prometheus;
//! neither Pingora nor configuration. Promises: nothing here waits for the network.
//! Read next: `refusal.rs`, then `reply.rs`.

pub(crate) mod client_certificate;
pub(crate) mod connection_notes;
pub(crate) mod cookies;
pub(crate) mod failure;
pub(crate) mod flood;
pub(crate) mod head;
pub(crate) mod head_clock;
pub(crate) mod http_client;
pub(crate) mod left_open;
pub(crate) mod limiter;
pub(crate) mod now;
pub(crate) mod refusal;
pub(crate) mod reply;
pub(crate) mod request_end;
pub(crate) mod service_manager;
pub(crate) mod telemetry;
