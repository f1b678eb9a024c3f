//! Link: how the server is reached: one, the master that sentinels name, or a cluster.

use std::fmt;
use std::time::Duration;

use common::redis::{Access, RedisUrl, tcp_settings};
use common::secret::Secret;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisError, RedisResult};

use crate::config::checked::{Redis, RedisPlace};

/// What a connection is made from: the settings, with their secret and their file read.
#[derive(PartialEq)]
pub(crate) struct Blueprint {
    place: RedisPlace,
    access: Access,
    timeout: Duration,
    connect_timeout: Duration,
}

/// The settings name something that cannot be used.
pub(crate) type BuildError = RedisError;

/// An open connection. Clones share it.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Blueprint {
    pub(crate) fn new(settings: &Redis, password: Option<Secret>, authorities: Option<Vec<u8>>) -> Self {
        let (username, database) = (settings.username.clone(), settings.database);
        Self {
            place: settings.place.clone(),
            access: Access { username, password, authorities, database },
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
        }
    }

    /// Makes sure that a client can be made from it; nothing is connected.
    ///
    /// # Errors
    /// When the authorities are no certificates.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        match &self.place {
            RedisPlace::Server(url) => self.access.client(url).map(drop),
            RedisPlace::Sentinel { urls, service } => self.access.sentinel(urls, service).map(drop),
            RedisPlace::Cluster(urls) => self.cluster(urls).map(drop),
        }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> RedisResult<Link> {
        match &self.place {
            RedisPlace::Server(url) => {
                let client = self.access.client(url)?;
                client.get_multiplexed_async_connection_with_config(&self.config()).await.map(Link::One)
            }
            RedisPlace::Sentinel { urls, service } => {
                let mut client = self.access.sentinel(urls, service)?.build()?;
                client.get_async_connection_with_config(&self.config()).await.map(Link::One)
            }
            RedisPlace::Cluster(urls) => {
                let client = self.cluster(urls)?.build()?;
                client.get_async_connection().await.map(Link::Cluster)
            }
        }
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.timeout))
    }

    fn cluster(&self, urls: &[RedisUrl]) -> RedisResult<ClusterClientBuilder> {
        let nodes = urls.iter().map(|url| self.access.info(url)).collect::<RedisResult<Vec<ConnectionInfo>>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.timeout)
            // A request does not wait for a second try: it goes on by itself.
            .retries(1)
            .tcp_settings(tcp_settings());
        if let Some(username) = &self.access.username {
            builder = builder.username(username);
        }
        if let Some(password) = &self.access.password {
            builder = builder.password(password.expose());
        }
        if let Some(certificates) = self.access.certificates().filter(|_| urls.iter().any(|url| url.tls)) {
            builder = builder.certs(certificates);
        }
        Ok(builder)
    }
}

/// Where it is, and nothing that is secret.
impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |urls: &[RedisUrl]| urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.place {
            RedisPlace::Server(url) => write!(f, "{url}"),
            RedisPlace::Sentinel { urls, service } => write!(f, "{service} of sentinels {}", list(urls)),
            RedisPlace::Cluster(urls) => write!(f, "cluster {}", list(urls)),
        }
    }
}

impl fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blueprint({self})")
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Cluster(_) => "Cluster",
        })
    }
}
