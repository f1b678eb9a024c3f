//! Benches: where the speed of both programs is measured.
//!
//! For: the programs in `bin/`. May touch: the machine's own description. Promises: no number is written down without
//! the machine, the versions and the way to get it again.
//! Read next: `bin/backend-load.rs`; `README.md` beside this crate.

#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be taken ends with what is missing")]

pub mod load;
pub mod machine;
pub mod peers;
pub mod times;
pub mod used;
pub mod wire;
