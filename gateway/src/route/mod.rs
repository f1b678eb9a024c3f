//! Route: which way does a request go?
//!
//! For: host, path and method in, one route out. May touch: configuration patterns. Promises: the most specific route
//! wins and the file's order never matters; what is matched is the normal form of the path, and that form is also what
//! is authorised and forwarded; a lookup reads without locks and allocates nothing for a clean request.
//! Read next: `path.rs` for the normal form, then `table.rs`.

pub(crate) mod host;
pub(crate) mod path;
pub(crate) mod table;

#[cfg(test)]
mod tests;
