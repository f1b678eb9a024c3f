//! Harness: what a test of the API needs around the backend.
//!
//! For: starting the real program on free ports with a database of the test's own, a model server that answers or
//! misbehaves as it is told, keys and tokens made by hand, and a client.
//! May touch: the loopback interface, temporary folders, processes it started itself.
//! Promises: whatever a test started ends with the test; nothing is waited for without a deadline, and a failure
//! shows what the program said. Read next: `backend.rs`, then `sessions.rs` in the folder above.

pub mod authority;
pub mod backend;
pub mod client;
pub mod database;
pub mod events;
pub mod model;
pub mod sandbox;
pub mod servers;
pub mod settings;
pub mod socket;
pub mod token;
