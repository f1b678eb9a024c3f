//! Test kit: what the tests of both programs need in the same form.
//!
//! For: starting the real programs and reading what they say, waiting with a deadline, tokens made by hand, and traces.
//! May touch: processes it started itself, by their own id only. It is used by tests and by nothing else.
//! Promises: what was started ends with the test; no wait is without a deadline; a failure shows what the program said.
//! Read next: `process.rs`.

#![allow(
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "what a test ignores it does not test"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test says what it expects by failing"
)]

pub mod collector;
pub mod postgres;
pub mod process;
pub mod redis;
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
