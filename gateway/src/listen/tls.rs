//! TLS: versions, protocols, resumption.

use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use rustls::crypto::aws_lc_rs;
use rustls::server::ServerSessionMemoryCache;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certs::Resolver;
use crate::config::checked::TlsVersion;

/// TLS 1.2 sessions remembered for clients without tickets, about 250 bytes each.
const SESSIONS_MAX: usize = 4096;

/// What a listener needs to shake hands. Tickets are encrypted with keys that live in this process and are changed every
/// six hours, so that resumption needs no memory per client.
///
/// # Errors
/// When the crypto provider lacks something, which a start tells and no request.
pub(crate) fn acceptor(resolver: Arc<Resolver>, min_version: TlsVersion) -> Result<Arc<Acceptor>, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(Acceptor::from_server_config(Arc::new(config))))
}
