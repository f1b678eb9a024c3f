//! Auth (B): who is it, and may they?
//!
//! For: credentials → `Identity` → `Permit`. May touch: key sets, sources of credentials and the auth service, over the network,
//! each with a deadline; files of keys and users, when a configuration is taken in. Promises: nothing unchecked passes; what cannot be checked is 503, never 401 and never a pass;
//! no credential is logged. Read next: `authenticate.rs`.

mod api_key;
pub(crate) mod authenticate;
pub(crate) mod authorize;
mod basic;
pub(crate) mod build;
mod certificate;
pub(crate) mod claims;
pub(crate) mod credential;
pub(crate) mod feed;
mod forward;
mod identity;
mod introspect;
pub(crate) mod jwks;
pub(crate) mod jwt;
mod key_file;
pub(crate) mod rehearse;
pub(crate) mod revocations;

pub(crate) use identity::Identity;
#[cfg(any(test, fuzzing))]
pub(crate) use identity::Method;
