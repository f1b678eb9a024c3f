//! TLS: versions, cipher suites, protocols, client certificates, resumption.
//!
//! For: what shakes hands on one listener, and how a reload replaces it. May touch: nothing outside.
//! Promises: handshakes under way end as they began; a session is resumed only on the terms it began with, so that a change
//! of authorities, suites or versions takes every ticket back. Read next: `certs.rs`, `client_auth.rs`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::certs::{Certificates, Resolver};
use super::client_auth::Authorities;
use crate::config::checked::{Suite, TlsVersion};

/// TLS 1.2 sessions remembered for clients without tickets, about 250 bytes each.
const SESSIONS_MAX: usize = 4096;

/// On what terms hands are shaken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terms {
    pub min_version: TlsVersion,
    /// Empty for every suite.
    pub suites: Vec<Suite>,
    /// Whose client certificates are accepted; `None` where none is asked for.
    pub client_auth: Option<Authorities>,
}

/// What shakes hands, and can be replaced while it does.
pub(super) struct TlsSide {
    resolver: Arc<Resolver>,
    shaking: ArcSwap<(Terms, Arc<Acceptor>)>,
}

impl TlsSide {
    pub(super) fn new(certificates: Certificates, terms: Terms) -> Result<Self, rustls::Error> {
        let resolver = Arc::new(Resolver::new(certificates));
        let acceptor = acceptor(Arc::clone(&resolver), &terms)?;
        Ok(Self { resolver, shaking: ArcSwap::from_pointee((terms, acceptor)) })
    }

    /// Handshakes from now on use these. Tickets of before are good only while the terms stay the same.
    pub(super) fn replace(&self, certificates: Certificates, terms: Terms) -> Result<(), rustls::Error> {
        if self.shaking.load().0 != terms {
            let acceptor = acceptor(Arc::clone(&self.resolver), &terms)?;
            self.shaking.store(Arc::new((terms, acceptor)));
        }
        self.resolver.replace(certificates);
        Ok(())
    }

    /// What shakes hands at the moment.
    pub(super) fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.shaking.load().1)
    }
}

/// What a listener needs to shake hands. Tickets are encrypted with keys that live in this process and are changed every
/// six hours, so that resumption needs no memory per client.
///
/// # Errors
/// When the crypto provider lacks something, which a start tells and no request.
fn acceptor(resolver: Arc<Resolver>, terms: &Terms) -> Result<Arc<Acceptor>, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match terms.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let provider = Arc::new(provider(&terms.suites));
    let verifier = match &terms.client_auth {
        Some(authorities) => authorities.verifier(&provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(Acceptor::from_server_config(Arc::new(config))))
}

/// The crypto of the process, with these suites alone where any are named.
fn provider(suites: &[Suite]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        provider.cipher_suites = suites.iter().copied().map(suite).collect();
    }
    provider
}

fn suite(suite: Suite) -> SupportedCipherSuite {
    match suite {
        Suite::Tls13Aes256 => cipher_suite::TLS13_AES_256_GCM_SHA384,
        Suite::Tls13Aes128 => cipher_suite::TLS13_AES_128_GCM_SHA256,
        Suite::Tls13Chacha20 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        Suite::EcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::EcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite::EcdsaChacha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite::RsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Suite::RsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Suite::RsaChacha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Suite; 9] = [
        Suite::Tls13Aes256,
        Suite::Tls13Aes128,
        Suite::Tls13Chacha20,
        Suite::EcdsaAes256,
        Suite::EcdsaAes128,
        Suite::EcdsaChacha20,
        Suite::RsaAes256,
        Suite::RsaAes128,
        Suite::RsaChacha20,
    ];

    #[test]
    fn each_suite_is_the_one_of_its_name() {
        for named in ALL {
            let found = suite(named);
            assert_eq!(found.suite().as_str(), Some(named.word()));
            assert_eq!(*found.version() == TLS13, named.is_tls13(), "{named:?}");
        }
        assert_eq!(provider(&[]).cipher_suites.len(), ALL.len(), "by default all of them");
        assert_eq!(provider(&ALL[..1]).cipher_suites, [suite(ALL[0])]);
    }
}
