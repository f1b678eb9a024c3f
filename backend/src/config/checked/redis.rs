//! Checked settings of the Redis server that processes share.
//!
//! For: `checked.rs`, of which this is a part. May touch: nothing. Promises: as `checked.rs`.
//! Read next: `shared/mod.rs`.

use std::time::Duration;

use common::secret::Secret;

/// A Redis server that processes share.
#[derive(Clone, Debug)]
pub struct Redis {
    /// How it is found.
    pub place: RedisPlace,
    /// The user, where it has users.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Authorities that are trusted for TLS, in PEM; those of the system, if `None`.
    pub authorities: Option<Vec<u8>>,
    /// The number of the database.
    pub database: u8,
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

/// Where a server or a sentinel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
}
