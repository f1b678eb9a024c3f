//! Listen (1): the door.
//!
//! For: sockets, PROXY protocol, TLS, client certificates, and how many may come in. May touch: the network, certificate files,
//! Pingora's streams.
//! Promises: a connection that is in is counted until it is gone; over the caps it is closed at the door and counted; after
//! the drain began, nobody new comes in and nobody who is in is cut before the deadline.
//! Pingora's own listening service is not used; `docs/decisions/0001-pingora-as-a-library.md` says why.
//! Read next: `listeners.rs`, then `socket.rs`; `handover/mod.rs` for how a new process takes over.

mod buffered;
mod certs;
mod client_auth;
pub(crate) mod devcert;
mod entrance;
mod goaway;
pub(crate) mod handover;
pub(crate) mod issued;
pub(crate) mod listeners;
mod no_request;
pub(crate) mod proxy_protocol;
pub(crate) mod socket;
mod tls;
mod watched;
