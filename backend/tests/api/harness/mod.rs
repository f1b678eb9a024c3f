//! Harness: what a test of the API needs around the backend.
//!
//! For: starting the real program on free ports with a database of the test's own, a model server that answers or
//! misbehaves as it is told, keys and tokens made by hand, and a client.
//! May touch: the loopback interface, temporary folders, processes it started itself.
//! Promises: whatever a test started ends with the test; nothing is waited for without a deadline, and a failure
//! shows what the program said. Read next: `backend.rs`, then `sessions.rs` in the folder above.

pub mod backend;
pub mod client;
pub mod database;
pub mod model;
pub mod process;
pub mod settings;
pub mod token;
pub mod wait;

use std::sync::Once;

/// Chooses the TLS library's cryptography for this process. Both of its providers are linked in, so it would panic
/// rather than guess.
pub fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .expect("nobody else in this process chooses a provider");
    });
}
