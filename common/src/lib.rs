//! What both programs must agree on, and nothing else.
//!
//! For: the words that cross the wire between gateway and backend (claims, roles, permissions, API keys, error
//! codes, problem bodies) and the few tools both need in the same shape (settings, secrets, clock, logs, traces, health,
//! whom proxies speak for, how others are asked by HTTP and Redis is reached, waits between attempts, what commands say).
//! May touch: the standard library, serde, hashing, the clients of HTTP and Redis. It knows neither Pingora nor SQL; nor an
//! async runtime, but for the thread that tells traces to a collector.
//! Promises: a change here is a change of contract; `docs/tokens.md` and `docs/errors.md` follow it.
//! Read next: `access.rs` for who may do what, `code.rs` for how refusals are named, `settings/` for configuration.

pub mod access;
pub mod api_key;
pub mod backoff;
pub mod body;
pub mod claims;
pub mod clock;
pub mod code;
pub mod forwarded;
pub mod health;
pub mod http_client;
pub mod output;
pub mod problem;
pub mod redis;
pub mod secret;
pub mod settings;
pub mod telemetry;
pub mod traces;
