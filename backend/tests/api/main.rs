//! The API as its clients see it: the real program, on free ports, with a database of its own for each test.
//!
//! For: one module for each part of the URL tree, and `refusals.rs` for what every route must refuse.
//! Promises: nothing sleeps for a fixed time; what should come true is polled with a deadline; programs are ended by
//! their own handle. Read next: `harness.rs`.

mod api_keys;
mod config;
mod harness;
mod health;
mod model_server;
mod processes;
mod queries;
mod refusals;
mod tokens;
mod users;
