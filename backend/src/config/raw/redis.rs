//! Raw keys of the Redis server that processes share.
//!
//! For: `raw.rs`, of which this is a part. May touch: nothing. Promises: as `raw.rs`. Read next: `../check/redis.rs`.

use std::path::PathBuf;

use common::redis::RedisUrl;
use common::secret::SecretRef;
use common::section;
use common::settings::{At, ByteSize, Millis};

section! {
    /// Redis 6.2 or newer, which processes share: answers that are kept, and the queries of batches as they come. At most
    /// one of `url` and `sentinel`; with neither there is none. While it is away everything goes on without it.
    pub(in crate::config) struct Redis {
        /// One server, such as `redis://10.0.0.5:6379`, or `rediss://` for TLS.
        pub(in crate::config) url: Option<At<RedisUrl>> = "null",
        /// Sentinels that know which server is the master.
        pub(in crate::config) sentinel: Option<Sentinel> = "null",
        /// User name, where the server has users.
        pub(in crate::config) username: Option<At<String>> = "null",
        /// Password.
        pub(in crate::config) password: Option<At<SecretRef>> = "null",
        /// PEM file with the authorities that are trusted for `rediss`; without it, those of the system.
        pub(in crate::config) ca: Option<At<PathBuf>> = "null",
        /// Number of the database.
        pub(in crate::config) database: u8 = "0",
        /// How long a question may take before the program goes on without an answer.
        pub(in crate::config) timeout: At<Millis> = "50ms",
        /// How long a connection may take.
        pub(in crate::config) connect_timeout: At<Millis> = "1s",
        /// What the names of all keys begin with. Processes with the same one and the same database share.
        pub(in crate::config) prefix: At<String> = "capibara6-backend",
        /// The largest answer that is kept there; larger ones are kept in the process alone.
        pub(in crate::config) answer_max: At<ByteSize> = "256KiB",
    }
}

section! {
    /// Sentinels.
    pub(in crate::config) struct Sentinel {
        /// Their addresses.
        pub(in crate::config) urls: Vec<RedisUrl> => "list at least one sentinel",
        /// The name under which they know the master.
        pub(in crate::config) service: At<String> => "name the master's service, such as service: mymaster",
    }
}
