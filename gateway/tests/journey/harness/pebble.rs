//! Pebble: an ACME authority of the test's own (Debian's `pebble`), which asks for proofs and issues certificates that nobody
//! else trusts.
//!
//! For: certificates that the gateway orders. May touch: the programs `pebble`, loopback sockets, a temporary folder.
//! Promises: every name that it is told resolves to this machine; it ends with the value. Read next: `../acme.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use tempfile::TempDir;
use testkit::process::Program;
use testkit::redis::free_address;
use testkit::wait::{PATIENCE, until};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::client;
use super::names::{Answer, Names};
use super::pki::Authority;
use super::tls;

/// A running authority.
pub struct Pebble {
    program: Option<Program>,
    /// Whom its own TLS is by.
    own: Authority,
    address: SocketAddr,
    /// PEM file with whom to trust for its own TLS.
    pub trusted: PathBuf,
    config: Arc<ClientConfig>,
    _names: Names,
    _folder: TempDir,
}

impl Pebble {
    /// Starts one that asks for proofs on this port, and issues certificates for so many seconds.
    pub async fn start(proof_port: u16, valid_seconds: u64, known: &[&str]) -> Self {
        testkit::install_crypto();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own = Authority::new();
        own.issue_as(folder.path(), "pebble", "127.0.0.1");
        let trusted = PathBuf::from(own.write_certificate(folder.path()));
        let names = Names::start().await;
        for name in known {
            names.set(name, &[Answer::A(Ipv4Addr::LOCALHOST)]);
        }
        let (address, management, unused) = (free_address(), free_address(), free_address());
        let settings = json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("pebble.crt"),
            "privateKey": folder.path().join("pebble.key"),
            "httpPort": proof_port,
            "tlsPort": unused.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": valid_seconds,
        }});
        let file = folder.path().join("pebble.json");
        std::fs::write(&file, settings.to_string()).expect("a temporary folder can be written");
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file).arg("-dnsserver").arg(names.address.to_string());
        // At once, and without the refusals by which it tests its clients.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let program = Program::start("pebble", command, "");
        let config = Self::trusting(&own, management).await;
        Self { program: Some(program), own, address, trusted, config, _names: names, _folder: folder }
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What somebody else shakes hands with whom its clients trust as they do it.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.own.acceptor("127.0.0.1")
    }

    /// A client that trusts it, by HTTP/1.1.
    pub fn client(&self) -> reqwest::Client {
        client::secure(&self.own, "127.0.0.1", self.address, true)
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.program = None;
    }

    /// The certificate that is shown for a name there, if it is one of this authority, and good.
    pub async fn certificate(&self, address: SocketAddr, name: &str) -> Option<Vec<u8>> {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        let shaken = tls::shake(stream, name, &self.config).await.ok()?;
        Some(shaken.get_ref().1.peer_certificates()?.first()?.to_vec())
    }

    /// What a client shakes hands with that trusts its root, which it makes anew at each start.
    async fn trusting(own: &Authority, management: SocketAddr) -> Arc<ClientConfig> {
        let client = client::secure(own, "127.0.0.1", management, true);
        let url = format!("https://{management}/roots/0");
        let pem = until("pebble tells its root", PATIENCE, async || {
            let answer = client.get(&url).send().await.ok()?;
            answer.error_for_status().ok()?.bytes().await.ok()
        })
        .await;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("a root");
        tls::config_of(roots, &tls::Hello { versions: rustls::ALL_VERSIONS, alpn: &[] }, None)
    }
}
