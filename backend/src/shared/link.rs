//! Link: how the server is reached: by its address, or by sentinels that know it.
//!
//! For: `keeper.rs`, and `streams.rs` for a connection that waits. May touch: the network.
//! Promises: a password is in no text that this makes. Read next: `keeper.rs`.

use std::fmt;
use std::time::Duration;

use common::redis::{Access, late};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult};

use crate::config::{Redis, RedisPlace};

/// How much longer than its steps may take the whole way to a server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a connection is made from.
pub(super) struct Blueprint {
    place: RedisPlace,
    access: Access,
    connect_timeout: Duration,
}

impl Blueprint {
    /// Makes sure that a client can be made from the settings; nothing is connected.
    ///
    /// # Errors
    /// When the authorities are no certificates.
    pub(super) fn new(settings: &Redis) -> RedisResult<Self> {
        let blueprint = Self {
            place: settings.place.clone(),
            access: settings.access.clone(),
            connect_timeout: settings.connect_timeout,
        };
        match &blueprint.place {
            RedisPlace::Server(url) => blueprint.access.client(url).map(drop)?,
            RedisPlace::Sentinel { urls, service } => blueprint.access.sentinel(urls, service).map(drop)?,
        }
        Ok(blueprint)
    }

    /// Opens a connection on which an answer may take so long.
    pub(super) async fn connect(&self, response_timeout: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout));
        let connecting = async {
            match &self.place {
                RedisPlace::Server(url) => {
                    self.access.client(url)?.get_multiplexed_async_connection_with_config(&config).await
                }
                RedisPlace::Sentinel { urls, service } => {
                    let mut client = self.access.sentinel(urls, service)?.build()?;
                    client.get_async_connection_with_config(&config).await
                }
            }
        };
        tokio::time::timeout(self.connect_timeout + PATIENCE, connecting).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Where it is, and nothing that is secret.
impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            RedisPlace::Server(url) => write!(f, "{url}"),
            RedisPlace::Sentinel { urls, service } => {
                write!(f, "{service} of sentinels")?;
                urls.iter().try_for_each(|url| write!(f, " {url}"))
            }
        }
    }
}
