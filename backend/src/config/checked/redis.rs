//! Checked settings of the Redis server that processes share.
//!
//! For: `checked.rs`, of which this is a part. May touch: nothing. Promises: as `checked.rs`.
//! Read next: `shared/mod.rs`.

use std::time::Duration;

use common::redis::{Access, RedisUrl};

/// A Redis server that processes share.
#[derive(Clone, Debug)]
pub struct Redis {
    /// How it is found.
    pub place: RedisPlace,
    /// As whom it is asked.
    pub access: Access,
    /// How long a question may take.
    pub timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// The largest answer that is kept there, in bytes.
    pub answer_bytes_max: usize,
}

/// How the server is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// It is this one.
    Server(RedisUrl),
    /// Sentinels say which it is.
    Sentinel {
        /// Where they are; at least one.
        urls: Vec<RedisUrl>,
        /// The name under which they know it.
        service: String,
    },
}
