//! Harness: what a journey test needs around the gateway.
//!
//! For: starting the real programs on free ports, upstreams that report or misbehave, an issuer and a certificate
//! authority of the test's own, and clients that send exactly the bytes they are told to.
//! May touch: the loopback interface, temporary folders, processes it started itself.
//! Promises: whatever a test started ends with the test; nothing is waited for without a deadline, and a failure
//! shows what the programs said. Read next: `gateway.rs`, then any room in the folder above.

pub mod advisor;
pub mod backend;
pub mod client;
pub mod gateway;
pub mod issuer;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod names;
pub mod pebble;
pub mod pki;
pub mod server;
pub mod settings;
pub mod tls;
pub mod upstream;
pub mod wire;
