//! Link: how the server is reached: one, the master that sentinels name, or a cluster.

use std::fmt;
use std::time::Duration;

use common::secret::Secret;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisError, RedisResult, TlsCertificates, TlsMode,
};

use crate::config::checked::{Redis, RedisPlace, RedisUrl};

/// What a connection is made from: the settings, with their secret and their file read.
pub(crate) struct Blueprint {
    place: RedisPlace,
    username: Option<String>,
    password: Option<Secret>,
    authorities: Option<Vec<u8>>,
    database: i64,
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
        Self {
            place: settings.place.clone(),
            username: settings.username.clone(),
            password,
            authorities,
            database: settings.database.into(),
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
            RedisPlace::Server(url) => self.client(url).map(|_| ()),
            RedisPlace::Sentinel { urls, service } => self.sentinel(urls, service).map(|_| ()),
            RedisPlace::Cluster(urls) => self.cluster(urls).map(|_| ()),
        }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> RedisResult<Link> {
        match &self.place {
            RedisPlace::Server(url) => {
                let client = self.client(url)?;
                client.get_multiplexed_async_connection_with_config(&self.config()).await.map(Link::One)
            }
            RedisPlace::Sentinel { urls, service } => {
                let mut client = self.sentinel(urls, service)?.build()?;
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

    fn client(&self, url: &RedisUrl) -> RedisResult<Client> {
        let info = self.info(url)?;
        match self.certificates() {
            Some(certificates) if url.tls => Client::build_with_tls(info, certificates),
            _ => Client::open(info),
        }
    }

    fn sentinel(&self, urls: &[RedisUrl], service: &str) -> RedisResult<SentinelClientBuilder> {
        let tls = urls.iter().any(|url| url.tls);
        let mut builder = SentinelClientBuilder::new(urls.iter().map(address), service, SentinelServerType::Master)?
            .set_client_to_redis_db(self.database)
            .set_client_to_redis_tcp_settings(tcp_settings());
        if let Some(username) = &self.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password.expose());
        }
        if tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = self.certificates().filter(|_| tls) {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        Ok(builder)
    }

    fn cluster(&self, urls: &[RedisUrl]) -> RedisResult<ClusterClientBuilder> {
        let nodes = urls.iter().map(|url| self.info(url)).collect::<RedisResult<Vec<ConnectionInfo>>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.timeout)
            // A request does not wait for a second try: it goes on by itself.
            .retries(1)
            .tcp_settings(tcp_settings());
        if let Some(username) = &self.username {
            builder = builder.username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password.expose());
        }
        if let Some(certificates) = self.certificates().filter(|_| urls.iter().any(|url| url.tls)) {
            builder = builder.certs(certificates);
        }
        Ok(builder)
    }

    fn info(&self, url: &RedisUrl) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default().set_db(self.database);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        Ok(address(url).into_connection_info()?.set_tcp_settings(tcp_settings()).set_redis_settings(settings))
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = Some(self.authorities.clone()?);
        Some(TlsCertificates { client_tls: None, root_cert })
    }
}

fn address(url: &RedisUrl) -> ConnectionAddr {
    let (host, port) = (url.host.clone(), url.port);
    if url.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// A question is one small packet; it must not wait for the acknowledgement of the one before.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

impl PartialEq for Blueprint {
    fn eq(&self, other: &Self) -> bool {
        let secret = |blueprint: &Self| blueprint.password.as_ref().map(|password| password.expose().to_owned());
        self.place == other.place
            && self.username == other.username
            && secret(self) == secret(other)
            && self.authorities == other.authorities
            && self.database == other.database
            && self.timeout == other.timeout
            && self.connect_timeout == other.connect_timeout
    }
}

/// Where it is, and nothing that is secret.
impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |urls: &[RedisUrl]| {
            urls.iter().map(|url| format!("{}:{}", url.host, url.port)).collect::<Vec<_>>().join(",")
        };
        match &self.place {
            RedisPlace::Server(url) => write!(f, "{}:{}", url.host, url.port),
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
