//! Redis: how a server is named in settings, and what a client of it is made from.
//!
//! For: the rooms that ask it, `store/` of the gateway and `shared/` of the backend. May touch: nothing; whoever takes a
//! client from here connects. Promises: a password is in no text that this makes, nor in an address that it reads.
//! Read next: `link.rs` in both of these rooms.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, RedisResult,
    TlsCertificates, TlsMode,
};
use reqwest::Url;

use crate::secret::Secret;
use crate::settings::{Decode, Decoder, Node, Shape, from_text};

/// The port of a server whose address names none.
const DEFAULT_PORT: u16 = 6379;

/// Where a server, or a sentinel, is: a `redis` or `rediss` URL with nothing but host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
}

/// As whom a server is asked, for what, and whom to trust for TLS.
#[derive(Clone, Debug)]
pub struct Access {
    /// The user, where it has users.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The authorities that are trusted, in PEM; those of the system, if `None`.
    pub authorities: Option<Vec<u8>>,
    /// The number of the database.
    pub database: u8,
}

impl RedisUrl {
    fn parse(text: &str) -> Result<Self, String> {
        // The text is not repeated: it may hold a password, which belongs behind a reference.
        let expected = || "expected a URL such as redis://10.0.0.5:6379, or rediss:// for TLS".to_owned();
        let url = Url::parse(text).map_err(|_| expected())?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err(
                "the user name and password are keys of their own: username, and password: env:NAME".to_owned()
            );
        }
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(expected()),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("nothing stands behind the port; the database is a key of its own".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(expected)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), tls })
    }

    fn address(&self) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }
}

impl Access {
    /// A client of one server.
    ///
    /// # Errors
    /// When the authorities are no certificates.
    pub fn client(&self, url: &RedisUrl) -> RedisResult<Client> {
        let info = self.info(url)?;
        match self.certificates() {
            Some(certificates) if url.tls => Client::build_with_tls(info, certificates),
            _ => Client::open(info),
        }
    }

    /// A client, in the making, of the master that sentinels know by this name.
    ///
    /// # Errors
    /// Never for URLs that were read. What is wrong with the authorities is told when it is built.
    pub fn sentinel(&self, urls: &[RedisUrl], service: &str) -> RedisResult<SentinelClientBuilder> {
        let tls = urls.iter().any(|url| url.tls);
        let addresses = urls.iter().map(RedisUrl::address);
        let mut builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)?
            .set_client_to_redis_db(self.database.into())
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

    /// What a connection to one server, or to one of a cluster, is opened with.
    ///
    /// # Errors
    /// Never for a URL that was read.
    pub fn info(&self, url: &RedisUrl) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default().set_db(self.database.into());
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        let info = url.address().into_connection_info()?;
        Ok(info.set_tcp_settings(tcp_settings()).set_redis_settings(settings))
    }

    /// Whom to trust, where that is set.
    #[must_use]
    pub fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = Some(self.authorities.clone()?);
        Some(TlsCertificates { client_tls: None, root_cert })
    }
}

/// A question is one small packet; it must not wait for the acknowledgement of the one before.
#[must_use]
pub fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The error of a question whose time was up before its answer came.
#[must_use]
pub fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

impl Decode for RedisUrl {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("redis URL")
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Two are equal when a server could not tell them apart.
impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        let secret = |access: &Self| access.password.as_ref().map(|password| password.expose().to_owned());
        self.username == other.username
            && secret(self) == secret(other)
            && self.authorities == other.authorities
            && self.database == other.database
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        let at = |host: &str, port, tls| Some(RedisUrl { host: host.to_owned(), port, tls });
        for (written, expected) in [
            ("redis://10.0.0.5", at("10.0.0.5", 6379, false)),
            ("rediss://redis.example:7000/", at("redis.example", 7000, true)),
            ("rediss://[::1]:7000", at("::1", 7000, true)),
            ("http://h", None),
            ("redis://", None),
            ("redis:///", None),
            ("redis://h/1", None),
            ("redis://h?a=b", None),
            ("redis://h#a", None),
            ("redis://app:hunter2@h", None),
            ("redis://:hunter2@h/", None),
            ("h:6379", None),
        ] {
            let read = RedisUrl::parse(written);
            assert_eq!(read.clone().ok(), expected, "{written}");
            assert!(!format!("{read:?}").contains("hunter2"), "{written}");
        }
    }

    #[test]
    fn a_client_is_made_without_a_connection() {
        let access = Access { username: None, password: None, authorities: Some(b"no PEM".to_vec()), database: 1 };
        let url = |tls| RedisUrl { host: "redis.example".to_owned(), port: 6379, tls };
        assert!(access.client(&url(false)).is_ok(), "without TLS nobody has to be trusted");
        assert!(access.sentinel(&[url(true), url(false)], "main").is_ok());
        let (same, other) = (access.clone(), Secret::new("other".into()));
        assert!(access == same);
        assert!(access != Access { password: Some(other), ..same });
    }
}
