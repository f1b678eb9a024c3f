//! Trust: whose certificate a server behind us must show.
//!
//! For: TLS to upstreams, for requests and for health checks alike. May touch: the file of authorities, once.
//! Promises: a certificate is always verified, for its name and against stated authorities or those of the system.

use std::path::Path;

use common::settings::{At, Mistake};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::checked::UpstreamTls;

/// What the servers of one upstream must show.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The name their certificate must be for.
    pub name: String,
    /// The authorities that may have signed it; `None` for those of the system.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
}

impl Trust {
    /// Reads the authorities.
    ///
    /// # Errors
    /// When the file holds none, or something that is no certificate.
    pub(crate) fn load(tls: &UpstreamTls) -> Result<Self, Mistake> {
        let authorities = tls.ca.as_ref().map(|file| read(file)).transpose()?;
        Ok(Self { name: tls.name.value.clone(), authorities })
    }
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
