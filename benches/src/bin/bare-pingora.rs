//! Bare Pingora: a proxy of its crates alone, which does nothing but forward.
//!
//! For: the floor below which the gateway cannot go. May touch: two listeners, one upstream.
//! Promises: one thread, the gateway's allocator, no callback beyond the one that every proxy must have.
//! Read next: `side-by-side.rs`.

#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be taken ends with what is missing")]

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::{HttpPeer, Result, Server};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() {
    testkit::install_crypto();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plain, https, upstream, certificate, key] = arguments.as_slice() else {
        panic!("usage: bare-pingora PLAIN HTTPS UPSTREAM CERTIFICATE KEY");
    };
    let conf = ServerConf {
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let bare = Bare { upstream: upstream.parse().expect("an address") };
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(plain);
    let mut tls = TlsSettings::intermediate(certificate, key).expect("a certificate");
    tls.enable_h2();
    service.add_tls_with_settings(https, None, tls);
    server.add_service(service);
    server.run_forever();
}
