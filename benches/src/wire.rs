//! Wire: connections of our own, for what load programs do not measure.
//!
//! For: connections that idle, and requests sent by the clock. May touch: the server it is told of.
//! Promises: a request that the server itself has held up is timed from when it was due, so that a server that stalls is
//! not asked less (which is called coordinated omission).
//! Read next: `peers.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::times::Times;

/// Bytes of an answer that are kept; the measured ones are far smaller.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A connection with TLS, on which requests go one after another.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    answer: Vec<u8>,
}

/// A client that trusts this certificate alone, and never resumes a session.
///
/// # Panics
/// When the certificate cannot be read.
#[must_use]
pub fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

impl Connection {
    /// Connects, and asks once, so that the server has made all that a connection needs.
    ///
    /// # Panics
    /// When the server does not answer with 200.
    pub async fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(address).await.expect("the server takes connections");
        tcp.set_nodelay(true).expect("a TCP connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.expect("a TLS handshake");
        let mut connection = Self { stream, answer: Vec::with_capacity(ANSWER_BYTES_MAX) };
        connection.ask().await;
        connection
    }

    /// One request and its answer.
    ///
    /// # Panics
    /// When the answer is not 200, or has no length.
    pub async fn ask(&mut self) {
        self.stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("a request is taken");
        self.answer.clear();
        loop {
            let count = self.stream.read_buf(&mut self.answer).await.expect("an answer");
            assert!(count > 0 && self.answer.len() <= ANSWER_BYTES_MAX, "the answer is whole and small");
            let text = String::from_utf8_lossy(&self.answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.expect("an answer with its length") {
                return;
            }
        }
    }
}

/// Requests at a fixed rate on that many connections, and how long each took.
///
/// # Panics
/// When a request fails.
pub async fn paced(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    connections: u32,
    per_second: u32,
    lasting: Duration,
) -> Times {
    let period = Duration::from_secs(1) * connections / per_second;
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(address, config).await);
    }
    let begin = Instant::now() + Duration::from_millis(100);
    let clients = (0..connections).zip(opened).map(|(index, mut connection)| {
        tokio::spawn(async move {
            let mut due = begin + period * index / connections;
            let mut times = Vec::new();
            while due < begin + lasting {
                // A timer wakes late by up to a millisecond, for which the server cannot be blamed.
                let asked = if Instant::now() < due {
                    sleep_until(due).await;
                    Instant::now()
                } else {
                    due
                };
                connection.ask().await;
                times.push(asked.elapsed());
                due += period;
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("a client ends well"));
    }
    Times::of(times)
}
