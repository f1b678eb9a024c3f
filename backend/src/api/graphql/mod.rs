//! GraphQL: the same services as REST, asked in one request for just what is needed.
//!
//! For: the listener of its own that `api/mod.rs` puts together. May touch: `auth`, `query`, `worker`, metrics, as REST does.
//! Promises: a document is bounded in size, depth, cost, aliases and directives before a field of it is asked; each root
//! field asks for the permissions that REST asks for; errors carry the codes that REST answers with.
//! Read next: `engine.rs`, where a request becomes an outcome; then `query.rs`, `mutation.rs` and `subscription.rs` for
//! what can be asked, `http.rs` and `socket.rs` for how.

#![allow(clippy::unused_async, clippy::unused_self, reason = "what a resolver must look like is not ours to choose")]

mod answers;
mod credentials;
mod document;
mod engine;
mod errors;
mod guard;
pub(super) mod http;
pub(super) mod ide;
mod jobs;
mod loaders;
mod meter;
mod mutation;
mod operations;
mod outcome;
mod persisted;
mod query;
mod request;
mod respond;
mod socket;
mod subscription;
mod types;
mod wire;

pub(super) use engine::Engine;
pub use engine::SchemaError;
