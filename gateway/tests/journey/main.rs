//! Journey: what the gateway promises, shown on the real program.
//!
//! For: one test, or one table, a promise; files are named as the rooms of `gateway/src` that keep it, and `whole.rs`
//! walks the whole way with the real backend. May touch: loopback sockets, temporary folders, processes it started.
//! Promises: bounded load, no wait without a deadline, nothing left behind.
//! Read next: `harness/mod.rs`, then `route.rs` for a table and `whole.rs` for a story.

#![allow(unreachable_pub, clippy::expect_used, clippy::panic, reason = "a test says what it expects by failing")]
#![allow(clippy::too_many_lines, reason = "a table of cases is read as one thing")]

mod access;
mod acme;
mod admission;
mod answers;
mod auth;
mod balance;
mod budget;
mod cluster;
mod compression;
mod config;
mod cors;
mod deadline;
mod discovery;
mod dispatch;
mod egress;
mod endurance;
mod explain;
mod floods;
mod forgery;
mod grpc;
mod harness;
mod heartbeat;
mod identity;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod limits;
mod listen;
mod mirror;
mod mtls;
mod proxy_protocol;
mod reload;
mod revocations;
mod rewrite;
mod route;
mod schemes;
mod shutdown;
mod smuggling;
mod split;
mod traces;
mod upgrade;
mod whole;
