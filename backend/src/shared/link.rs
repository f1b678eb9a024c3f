//! Link: how the server is reached: by its address, or by sentinels that know it.
//!
//! For: `keeper.rs`, and `streams.rs` for a connection that waits. May touch: the network.
//! Promises: a password is in no text that this makes. Read next: `keeper.rs`.

use std::fmt;
use std::time::Duration;

use common::secret::Secret;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult,
    TlsCertificates, TlsMode,
};

use crate::config::{Redis, RedisPlace, RedisUrl};

/// How much longer than its steps may take the whole way to a server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a connection is made from.
pub(super) struct Blueprint {
    place: RedisPlace,
    username: Option<String>,
    password: Option<Secret>,
    authorities: Option<Vec<u8>>,
    database: i64,
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
            username: settings.username.clone(),
            password: settings.password.clone(),
            authorities: settings.authorities.clone(),
            database: settings.database.into(),
            connect_timeout: settings.connect_timeout,
        };
        match &blueprint.place {
            RedisPlace::Server(url) => blueprint.client(url).map(drop)?,
            RedisPlace::Sentinel { urls, service } => blueprint.sentinel(urls, service).map(drop)?,
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
                    self.client(url)?.get_multiplexed_async_connection_with_config(&config).await
                }
                RedisPlace::Sentinel { urls, service } => {
                    let mut client = self.sentinel(urls, service)?.build()?;
                    client.get_async_connection_with_config(&config).await
                }
            }
        };
        tokio::time::timeout(self.connect_timeout + PATIENCE, connecting).await.unwrap_or_else(|_| Err(super::late()))
    }

    fn client(&self, url: &RedisUrl) -> RedisResult<Client> {
        let mut settings = RedisConnectionInfo::default().set_db(self.database);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        let info = address(url).into_connection_info()?.set_tcp_settings(tcp_settings()).set_redis_settings(settings);
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

/// Where it is, and nothing that is secret.
impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            RedisPlace::Server(url) => write!(f, "{}:{}", url.host, url.port),
            RedisPlace::Sentinel { urls, service } => {
                write!(f, "{service} of sentinels")?;
                urls.iter().try_for_each(|url| write!(f, " {}:{}", url.host, url.port))
            }
        }
    }
}
