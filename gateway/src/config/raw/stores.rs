//! Keys of `stores`: what gateways share with each other.

use std::path::PathBuf;

use common::redis::RedisUrl;
use common::secret::SecretRef;
use common::section;
use common::settings::{At, Millis};

section! {
    /// What gateways share with each other.
    pub(crate) struct Stores {
        /// A Redis server, or several. Without it limits of scope `cluster` stay in each process, and the log says so.
        pub redis: Option<Redis> = "null",
    }
}

section! {
    /// Redis 6.2 or newer: at most one of `url`, `sentinel` and `cluster`; none means no store.
    pub(crate) struct Redis {
        /// One server, such as `redis://10.0.0.5:6379`, or `rediss://` for TLS.
        pub url: Option<At<RedisUrl>> = "null",
        /// Sentinels that know which server is the master.
        pub sentinel: Option<Sentinel> = "null",
        /// Nodes of a cluster to begin with. Limits of one request then live on several nodes and are asked side by side.
        pub cluster: Vec<At<RedisUrl>> = "[]",
        /// User name, where the server has users.
        pub username: Option<String> = "null",
        /// Password.
        pub password: Option<At<SecretRef>> = "null",
        /// PEM file with the authorities that are trusted for `rediss`; without it, those of the system.
        pub ca: Option<At<PathBuf>> = "null",
        /// Number of the database.
        pub database: u8 = "0",
        /// How long a question may take before the request goes on without an answer.
        pub timeout: Millis = "50ms",
        /// How long a connection may take.
        pub connect_timeout: Millis = "1s",
        /// What the names of all keys begin with. Gateways with the same one share.
        pub prefix: At<String> = "capibara6",
    }
}

section! {
    /// Sentinels.
    pub(crate) struct Sentinel {
        /// Their addresses.
        pub urls: Vec<At<RedisUrl>> => "list at least one sentinel",
        /// The name under which they know the master.
        pub service: String => "name the master's service, such as service: mymaster",
    }
}
