//! Certificates: read, judged, and chosen by the name that a client asks for (SNI, RFC 6066 §3).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use common::settings::{At, Mistake};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::issued::Issued;
use crate::base::now::unix_now;
use crate::config::checked::{CertificateFiles, Environment, ListenerTls};

/// Who signs development certificates; see `devcert.rs`.
pub(crate) const DEVELOPMENT_AUTHORITY: &str = "Capibara6 development";

/// The certificates of one listener, by name.
#[derive(Debug)]
pub(crate) struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the name behind `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name nobody, or nobody we know; `None` where every certificate is ordered.
    default: Option<Arc<CertifiedKey>>,
    /// The names of certificates that are ordered.
    ordered: Vec<Arc<str>>,
    /// Where those are found.
    issued: Arc<Issued>,
    ends: Vec<End>,
}

/// When a certificate ends.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// Its file, as the configuration names it.
    pub file: String,
    /// Seconds since the Unix epoch.
    pub unix_seconds: i64,
}

/// A pair that can be used.
struct Loaded {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    end: End,
}

/// What a TLS handshake asks: the certificates of the moment, which a reload replaces.
#[derive(Debug)]
pub(crate) struct Resolver(ArcSwap<Certificates>);

impl Resolver {
    pub(crate) fn new(certificates: Certificates) -> Self {
        Self(ArcSwap::from_pointee(certificates))
    }

    /// Handshakes from now on get these; those under way keep theirs.
    pub(crate) fn replace(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("cannot be read as PEM: {0}")]
    Pem(rustls_pki_types::pem::Error),
    #[error("holds no certificate")]
    Empty,
    #[error("is not a certificate that can be read")]
    Unreadable,
    #[error("is expired since {0}")]
    Expired(String),
    #[error("is a development certificate, and the environment is production")]
    Development,
    #[error("is of a kind that cannot be used: {0}")]
    Key(rustls::Error),
    #[error("does not belong to the certificate: {0}")]
    Mismatch(rustls::Error),
}

/// Reads every pair of a listener; `issued` has, or will have, those that are ordered.
///
/// # Errors
/// One mistake for each pair that cannot be used, at its place in the configuration.
pub(crate) fn load(
    tls: &ListenerTls,
    environment: Environment,
    issued: &Arc<Issued>,
) -> Result<Certificates, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut loaded = Vec::new();
    for pair in &tls.certificates {
        match load_pair(pair, environment) {
            Ok(pair) => loaded.push(pair),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut certificates = Certificates {
        exact: HashMap::new(),
        wildcard: HashMap::new(),
        default: loaded.first().map(|first| Arc::clone(&first.key)),
        ordered: tls.acme.as_ref().map(|acme| acme.names.clone()).unwrap_or_default(),
        issued: Arc::clone(issued),
        ends: Vec::new(),
    };
    for pair in loaded {
        certificates.insert(pair);
    }
    Ok(certificates)
}

fn load_pair(pair: &CertificateFiles, environment: Environment) -> Result<Loaded, Mistake> {
    let chain = read_chain(&pair.cert.value).map_err(|error| mistake(&pair.cert, &error))?;
    let (names, unix_seconds) = judge(&chain, environment).map_err(|error| mistake(&pair.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&pair.key.value);
    let key = key.map_err(|error| mistake(&pair.key, &CertificateError::Pem(error)))?;
    let signing = aws_lc_rs::sign::any_supported_type(&key);
    let signing = signing.map_err(|error| mistake(&pair.key, &CertificateError::Key(error)))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|error| mistake(&pair.key, &CertificateError::Mismatch(error)))?;
    let end = End { file: pair.cert.value.display().to_string(), unix_seconds };
    Ok(Loaded { key: Arc::new(certified), names, end })
}

/// Every certificate of a PEM file, in its order.
///
/// # Errors
/// When it cannot be read, or holds none.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(CertificateError::Pem)?;
    if chain.is_empty() { Err(CertificateError::Empty) } else { Ok(chain) }
}

/// The names and the end of the first certificate, unless it is past its end or not fit for the place.
pub(super) fn judge(
    chain: &[CertificateDer<'static>],
    environment: Environment,
) -> Result<(Vec<String>, i64), CertificateError> {
    let leaf = chain.first().ok_or(CertificateError::Empty)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::Unreadable)?;
    let end = leaf.validity().not_after;
    if end.timestamp() < unix_now() {
        return Err(CertificateError::Expired(end.to_string()));
    }
    let issuers = leaf.issuer().iter_common_name().filter_map(|name| name.as_str().ok());
    if environment == Environment::Production && issuers.into_iter().any(|name| name == DEVELOPMENT_AUTHORITY) {
        return Err(CertificateError::Development);
    }
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter()).into_iter().flatten();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok((names.collect(), end.timestamp()))
}

fn mistake<T>(at: &At<T>, error: &CertificateError) -> Mistake
where
    T: AsRef<Path>,
{
    let message = format!("{} {error}", at.value.as_ref().display());
    Mistake { position: at.position, path: at.path.clone(), message }
}

impl Certificates {
    /// A name that two pairs carry belongs to the first.
    fn insert(&mut self, pair: Loaded) {
        for name in &pair.names {
            let (map, name) = match name.strip_prefix("*.") {
                Some(rest) => (&mut self.wildcard, rest),
                None => (&mut self.exact, name.as_str()),
            };
            map.entry(name.to_owned()).or_insert_with(|| Arc::clone(&pair.key));
        }
        self.ends.push(pair.end);
    }

    /// When each of them ends, in the order of the configuration.
    pub(super) fn ends(&self) -> &[End] {
        &self.ends
    }

    /// A name that is ordered and not there yet gets nothing rather than a certificate for others.
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        // rustls hands names over in lower case. A wildcard stands for exactly one label (RFC 6125 §6.4.3).
        let by_wildcard = || name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest)).cloned();
        if let Some(exact) = self.exact.get(name) {
            Some(Arc::clone(exact))
        } else if self.ordered.iter().any(|ordered| **ordered == *name) {
            self.issued.find(name).or_else(by_wildcard)
        } else {
            by_wildcard().or_else(|| self.stranger())
        }
    }

    /// For clients that name nobody, or nobody we know.
    fn stranger(&self) -> Option<Arc<CertifiedKey>> {
        let ordered = || self.ordered.iter().find_map(|name| self.issued.find(name));
        self.default.clone().or_else(ordered)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        hello.server_name().map_or_else(|| certificates.stranger(), |name| certificates.find(name))
    }
}
