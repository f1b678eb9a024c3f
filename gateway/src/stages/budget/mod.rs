//! Budget (C): how much may this caller still spend?
//!
//! For: all limits of a request at once, once it is known who asks; and what a request has really cost, once it is answered.
//! May touch: the limits and the store that gateways share. Runs after `auth`: it needs a `Permit`, or the refusal that there
//! is none. Promises: a refusal opens no upstream connection and spends nothing of any limit; a store that is away costs
//! nobody an answer, unless the limit says so.
//! Read next: `spend.rs`, then `settle.rs`, then `base/limiter/`.

pub(crate) mod settle;
pub(crate) mod spend;
