//! Budget (C): how much may this caller still spend?
//!
//! For: limits by key and by subject. May touch: the limiter and the route's limits; reads no header itself.
//! Runs after `auth`: it needs a `Permit`. Promises: a refusal opens no upstream connection.
//! Read next: `rate_by_key.rs`, then `base/limiter/`.

pub(crate) mod rate_by_key;
