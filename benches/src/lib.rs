//! Benches: where the speed of the gateway is measured.
//!
//! For: nothing yet; the plan is in `README.md` beside this crate. May touch: the built programs and the rivals they
//! are compared with. Promises: no number is written down without the machine, the versions and the way to get it again.
