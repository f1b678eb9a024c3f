//! The edge: TLS, tokens and keys, permissions, limits and balancing in front of API servers.
//!
//! For: the `gateway` program. The folders are the rooms a request walks through, in that order: `listen`, `route`,
//! `stages`, `upstream`; off the path lie `admin`, `explain`, `base` and `config`.
//! May touch: a file imports only from its right in
//! `main → app → {acme, admin, explain, reload} → {listen, proxy} → snapshot → stages → {route, store, upstream} → config → base`; a test keeps it so.
//! Promises: input never panics it; every queue, cache, header, body and wait has a bound; secrets never print.
//! Read next: `proxy.rs`, the journey on one page, then `stages/mod.rs`.

pub mod app;

mod acme;
mod admin;
mod explain;
mod reload;

mod listen;
mod proxy;

mod snapshot;

mod stages;

mod route;
mod store;
mod upstream;

mod config;

mod base;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
