//! Trust: whose certificate a server behind us must show.
//!
//! For: TLS to upstreams, for requests and for health checks alike. May touch: the file of authorities, once.
//! Promises: a certificate is always verified, for its name and against stated authorities or those of the system.

use std::path::Path;

use common::settings::{At, Mistake};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::peer;
use crate::config::checked::{ClientIdentity, UpstreamTls};

/// What the servers of one upstream must show.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The name their certificate must be for.
    pub name: String,
    /// The authorities that may have signed it; `None` for those of the system.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// What the gateway shows itself, where servers ask for it.
    pub identity: Option<Identity>,
}

/// A certificate of the gateway's own, with its key.
pub(crate) struct Identity {
    /// As Pingora shows it.
    pub shown: peer::Shown,
    /// Certificates and key in PEM, for the client of the health checks.
    pub pem: Vec<u8>,
}

/// A key does not print.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(***)")
    }
}

impl Trust {
    /// Reads the authorities.
    ///
    /// # Errors
    /// When the file holds none, or something that is no certificate.
    pub(crate) fn load(tls: &UpstreamTls) -> Result<Self, Mistake> {
        let authorities = tls.ca.as_ref().map(|file| read(file)).transpose()?;
        let identity = tls.certificate.as_ref().map(read_identity).transpose()?;
        Ok(Self { name: tls.name.value.clone(), authorities, identity })
    }
}

fn read_identity(files: &ClientIdentity) -> Result<Identity, Mistake> {
    let certificates = read(&files.cert)?;
    let at_key = |what: String| Mistake {
        position: files.key.position,
        path: files.key.path.clone(),
        message: format!("{} {what}", files.key.value.display()),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key.value);
    let key = key.map_err(|error| at_key(format!("cannot be read as a private key: {error}")))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(certificates.clone(), key.clone_key(), &provider)
        .map_err(|error| at_key(format!("does not fit its certificate: {error}")))?;
    let mut pem = std::fs::read(&files.key.value).map_err(|error| at_key(format!("cannot be read: {error}")))?;
    pem.push(b'\n');
    pem.extend(std::fs::read(&files.cert.value).map_err(|error| at_key(format!("cannot be read: {error}")))?);
    let certificates = certificates.iter().map(|der| der.to_vec()).collect();
    Ok(Identity { shown: peer::shown(certificates, key.secret_der().to_vec()), pem })
}

fn read(file: &At<std::path::PathBuf>) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let mistake = |what: String| Mistake {
        position: file.position,
        path: file.path.clone(),
        message: format!("{} {what}", Path::new(&file.value).display()),
    };
    let certificates = CertificateDer::pem_file_iter(&file.value).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| mistake(format!("cannot be read as PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(mistake("holds no certificate".to_owned()));
    }
    if certificates.iter().any(|certificate| X509Certificate::from_der(certificate).is_err()) {
        return Err(mistake("holds something that is not a certificate".to_owned()));
    }
    Ok(certificates)
}
