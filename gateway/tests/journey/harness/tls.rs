//! TLS: connections by hand, and HTTP on top of one connection of one's own.
//!
//! For: what is decided below HTTP (versions, certificates, ALPN), and for tests that must know which connection a
//! request travels on. May touch: loopback sockets. Promises: no retry, no pool. Read next: `pki.rs`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::{Authority, Identity};

/// What a client offers in its hello.
pub struct Hello {
    /// Which versions of TLS.
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// Which protocols, by ALPN.
    pub alpn: &'static [&'static str],
}

/// TLS 1.2 alone.
pub static TLS12_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// TLS 1.3 alone.
pub static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Both versions, HTTP/1.1 only.
pub static H1: Hello = Hello { versions: rustls::ALL_VERSIONS, alpn: &["http/1.1"] };

/// Both versions, HTTP/2 only.
pub static H2: Hello = Hello { versions: rustls::ALL_VERSIONS, alpn: &["h2"] };

/// Connects and shakes hands. `name` is sent as SNI unless it is an address, and the certificate must be for it.
pub async fn connect(
    address: SocketAddr,
    name: &str,
    authority: &Authority,
    hello: &Hello,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    shake(stream, name, &config(authority, hello, None)).await
}

/// What a client shakes hands with. Sessions are resumed between handshakes with the same one.
pub fn config(authority: &Authority, hello: &Hello, shown: Option<&Identity>) -> Arc<ClientConfig> {
    config_of(authority.roots(), hello, shown)
}

/// The same for whoever trusts these roots.
pub fn config_of(roots: RootCertStore, hello: &Hello, shown: Option<&Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(hello.versions).expect("the provider knows both versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let chain = vec![shown.certificate.clone()];
            builder.with_client_auth_cert(chain, shown.key()).expect("a key that fits its certificate")
        }
    };
    config.alpn_protocols = hello.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Shakes hands on a connection that is open.
pub async fn shake(
    stream: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a DNS name or an address");
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// HTTP on one TLS connection.
pub struct Connection {
    sender: Sender,
    host: String,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// Why a request was not answered.
#[derive(Debug)]
pub enum Lost {
    /// It never left: the connection was closed before.
    NotSent,
    /// It was sent, and no complete answer came.
    Unanswered(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("it was not sent: the connection was closed before"),
            Self::Unanswered(why) => write!(f, "it was sent, and not answered completely: {why}"),
        }
    }
}

impl Connection {
    /// Opens one.
    pub async fn open(
        address: SocketAddr,
        host: &str,
        authority: &Authority,
        hello: &Hello,
    ) -> std::io::Result<Self> {
        Self::over(connect(address, host, authority, hello).await?, host, hello).await
    }

    /// Speaks HTTP on a connection whose handshake is over.
    pub async fn over(stream: TlsStream<TcpStream>, host: &str, hello: &Hello) -> std::io::Result<Self> {
        let io = TokioIo::new(stream);
        let sender = if hello.alpn == H2.alpn {
            let shaken = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = shaken.map_err(std::io::Error::other)?;
            // How the connection ends shows in the requests on it.
            tokio::spawn(async move { drop(connection.await) });
            Sender::H2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::H1(sender)
        };
        Ok(Self { sender, host: host.to_owned() })
    }

    /// Sends a GET for exactly this target and waits for the whole answer.
    pub async fn get(&mut self, target: &str, token: Option<&str>) -> Result<(StatusCode, Bytes), Lost> {
        match token.map(|token| format!("Bearer {token}")) {
            Some(bearer) => self.get_with(target, &[("authorization", bearer.as_str())]).await,
            None => self.get_with(target, &[]).await,
        }
    }

    /// The same, with these fields.
    pub async fn get_with(&mut self, target: &str, fields: &[(&str, &str)]) -> Result<(StatusCode, Bytes), Lost> {
        let uri = match self.sender {
            Sender::H1(_) => target.to_owned(),
            Sender::H2(_) => format!("https://{}{target}", self.host),
        };
        let mut request = Request::get(uri);
        if matches!(self.sender, Sender::H1(_)) {
            request = request.header(http::header::HOST, &self.host);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("the target is a URI");
        let sent = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.map_err(|_| Lost::NotSent)?;
                sender.try_send_request(request).await
            }
            Sender::H2(sender) => {
                sender.ready().await.map_err(|_| Lost::NotSent)?;
                sender.try_send_request(request).await
            }
        };
        let response = sent.map_err(|error| match error.message() {
            Some(_) => Lost::NotSent,
            None => Lost::Unanswered(format!("{:?}", error.error())),
        })?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Lost::Unanswered(format!("the answer broke off: {error:?}")))?;
        Ok((status, body.to_bytes()))
    }
}
