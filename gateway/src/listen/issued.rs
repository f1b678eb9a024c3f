//! Issued: certificates that were ordered, as handshakes find them.
//!
//! For: `acme`, which puts them in, and the listeners, which show them. May touch: memory alone. Promises: what was put in is
//! shown from the next handshake on, at every listener that names it; a reload takes nothing away that is still named.
//! Read next: `certs.rs`, then `../acme/mod.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certs::{self, CertificateError};
use crate::config::checked::Environment;

/// Certificates by the names that they were ordered for.
#[derive(Debug, Default)]
pub(crate) struct Issued(ArcSwap<HashMap<Arc<str>, Arc<CertifiedKey>>>);

/// A certificate with its key, ready to be shown.
#[derive(Clone, Debug)]
pub(crate) struct IssuedPair {
    key: Arc<CertifiedKey>,
    /// When it begins and ends, in seconds since the Unix epoch.
    pub begins: i64,
    pub ends: i64,
}

/// Why a certificate that was ordered cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuedError {
    #[error("the certificate {0}")]
    Unusable(#[from] CertificateError),
    #[error("the certificate is not for {0}")]
    Name(Arc<str>),
}

impl Issued {
    /// The certificate that was ordered for a name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0.load().get(name).cloned()
    }

    /// Whether every one of these names has a certificate.
    pub(crate) fn has_all<'n>(&self, names: impl IntoIterator<Item = &'n Arc<str>>) -> bool {
        let known = self.0.load();
        names.into_iter().all(|name| known.contains_key(name))
    }

    /// Handshakes for these names get this one from now on.
    pub(crate) fn put(&self, names: &[Arc<str>], pair: &IssuedPair) {
        self.0.rcu(|known| {
            let mut next = HashMap::clone(known);
            next.extend(names.iter().map(|name| (Arc::clone(name), Arc::clone(&pair.key))));
            next
        });
    }

    /// Forgets all names but these.
    pub(crate) fn keep_only(&self, names: &HashSet<Arc<str>>) {
        self.0.rcu(|known| {
            let mut next = HashMap::clone(known);
            next.retain(|name, _| names.contains(name));
            next
        });
    }
}

impl IssuedPair {
    /// Reads a key and a chain of certificates from PEM.
    ///
    /// # Errors
    /// When they do not belong together, have ended, or are not for every one of these names.
    pub(crate) fn read(pem: &[u8], names: &[Arc<str>]) -> Result<Self, IssuedError> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(CertificateError::Pem)?;
        // What is fit for production is for the authority of the configuration to say.
        let (own, ends) = certs::judge(&chain, Environment::Development)?;
        if let Some(missing) = names.iter().find(|name| !own.iter().any(|own| **own == ***name)) {
            return Err(IssuedError::Name(Arc::clone(missing)));
        }
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(CertificateError::Pem)?;
        let signing = aws_lc_rs::sign::any_supported_type(&key).map_err(CertificateError::Key)?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(CertificateError::Mismatch)?;
        let leaf = certified.cert.first().ok_or(CertificateError::Empty)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::Unreadable)?;
        let begins = parsed.validity().not_before.timestamp();
        Ok(Self { key: Arc::new(certified), begins, ends })
    }

    /// The certificate itself, without its issuers.
    pub(crate) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn pem(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        edit(&mut params);
        let certificate = params.self_signed(&key).expect("a certificate");
        format!("{}{}", key.serialize_pem(), certificate.pem())
    }

    #[test]
    fn what_fits_is_found_until_its_name_is_forgotten() {
        let wanted = names(&["a.test"]);
        let pair = IssuedPair::read(pem("a.test", |_| {}).as_bytes(), &wanted).expect("sound");
        assert!(pair.begins < pair.ends && pair.leaf().is_some());
        let issued = Issued::default();
        assert!(!issued.has_all(&wanted) && issued.has_all(&names(&[])));
        issued.put(&wanted, &pair);
        assert!(issued.has_all(&wanted) && issued.find("a.test").is_some() && issued.find("b.test").is_none());
        issued.keep_only(&HashSet::new());
        assert!(issued.find("a.test").is_none());
    }

    #[test]
    fn what_ended_or_is_for_others_or_has_another_key_is_refused() {
        let ended = pem("a.test", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(IssuedPair::read(ended.as_bytes(), &names(&["a.test"])).is_err());
        let other = pem("b.test", |_| {});
        assert!(matches!(IssuedPair::read(other.as_bytes(), &names(&["a.test"])), Err(IssuedError::Name(_))));
        let key = KeyPair::generate().expect("a key").serialize_pem();
        let certificate = other.split_once("-----BEGIN CERT").expect("both parts").1;
        let mixed = format!("{key}-----BEGIN CERT{certificate}");
        assert!(IssuedPair::read(mixed.as_bytes(), &names(&["b.test"])).is_err());
    }
}
