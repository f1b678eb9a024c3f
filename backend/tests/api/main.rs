//! Contract: what the backend promises, shown on the real program.
//!
//! For: one test, or one table, a promise; files are named after the URLs and the parts of the program they ask.
//! May touch: loopback sockets, temporary folders, processes it started.
//! Promises: every status and every code is held against the contract; no wait is without a deadline, nothing is left
//! behind.
//! Read next: `harness/mod.rs`, then `sessions.rs`.

#![allow(unreachable_pub, clippy::expect_used, clippy::panic, reason = "a test says what it expects by failing")]
#![allow(clippy::too_many_lines, reason = "a table of cases is read as one thing")]

mod api_keys;
mod audit_events;
mod commands;
mod conformance;
mod engines;
mod graphql;
mod graphql_bounds;
mod graphql_socket;
mod harness;
mod health;
mod idempotency;
mod internal;
mod jobs;
mod jobs_killed;
mod jobs_redis;
mod metrics;
mod models;
mod openai;
mod openapi;
mod processes;
mod queries;
mod refusals;
mod revocations;
mod rotation;
mod sandbox;
mod sessions;
mod shared_answers;
mod streams;
mod tags;
mod throttle;
mod tokens;
mod traces;
mod users;
mod visitors;
mod walk;
