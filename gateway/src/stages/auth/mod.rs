//! Auth (B): who is it, and may they?
//!
//! For: credentials → `Identity` → `Permit`. May touch: key sets and the source of API keys, over the network, each with
//! a deadline and a cache. Promises: nothing unchecked passes; what cannot be checked is 503, never 401 and never a pass;
//! no credential is logged. Read next: `authenticate.rs`.

pub(crate) mod api_key;
pub(crate) mod authenticate;
pub(crate) mod authorize;
mod identity;
pub(crate) mod jwks;
pub(crate) mod jwt;

pub(crate) use identity::Identity;
#[cfg(test)]
pub(crate) use identity::Method;
