//! Explain: what would become of a request, and why.
//!
//! For: `gateway explain`, `gateway test` and `gateway routes`. May touch: a snapshot that was never started, and the stages, which
//! are the very ones that serve; who must be asked about a credential, only where that is wanted. Promises: no listener is opened,
//! no upstream is asked, nothing is spent; a credential never shows, nor does what the configuration tells upstreams in its own
//! fields. Read next: `walk.rs`, then `cases.rs` for `tests` of the file.

pub(crate) mod cases;
pub(crate) mod request;
pub(crate) mod routes;
mod send;
pub(crate) mod story;
mod tell;
pub(crate) mod walk;
mod words;

#[cfg(test)]
mod tests;
