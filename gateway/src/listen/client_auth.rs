//! Client certificates: whose are accepted, and what one says.
//!
//! For: `tls.client_auth` of a listener. May touch: the file of authorities. Promises: a certificate counts only when it was
//! verified in the handshake; it is read once a connection; what cannot be read, is too large or has ended meanwhile (a
//! resumed session shows what an earlier handshake verified) ends the connection.
//! Read next: `tls.rs`, then `base/client_certificate.rs`.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use common::settings::{At, Mistake};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certs::read_chain;
use crate::base::client_certificate::ClientCertificate;
use crate::config::checked::{ClientAuth, ClientAuthMode};

/// Authorities of one listener. Each is named to every client in the handshake.
const AUTHORITIES_MAX: usize = 100;

/// Size of a client's own certificate, which is kept as long as its connection is. Usual ones have 1 to 2 KiB.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Alternative names that are read of one certificate, over all kinds.
const NAMES_MAX: usize = 64;

/// Whose certificates are accepted, as read from its file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Authorities {
    mode: ClientAuthMode,
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a certificate that was verified in a handshake does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShownError {
    #[error("the client's certificate cannot be read")]
    Unreadable,
    #[error("the client's certificate has ended since its session began")]
    Ended,
}

impl Authorities {
    /// Reads them.
    ///
    /// # Errors
    /// When the file holds none, too many, or something that is no certificate.
    pub(super) fn load(settings: &ClientAuth) -> Result<Self, Mistake> {
        let file = &settings.ca;
        let certificates = read_chain(&file.value).map_err(|error| mistake(file, &error.to_string()))?;
        let authorities = Self { mode: settings.mode, certificates };
        authorities.roots().map_err(|what| mistake(file, &what))?;
        Ok(authorities)
    }

    /// What verifies in a handshake.
    ///
    /// # Errors
    /// None for what `load` has accepted.
    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let roots = self.roots().map_err(rustls::Error::General)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match self.mode {
            ClientAuthMode::Optional => builder.allow_unauthenticated(),
            ClientAuthMode::Required => builder,
        };
        let verifier = builder.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Arc::new(Readable(verifier)))
    }

    /// The same as what is trusted, or what is wrong with the file.
    fn roots(&self) -> Result<RootCertStore, String> {
        if self.certificates.len() > AUTHORITIES_MAX {
            return Err(format!("holds more than {AUTHORITIES_MAX} certificates"));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &self.certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|error| format!("holds something that is no authority's certificate: {error}"))?;
        }
        Ok(roots)
    }
}

fn mistake(file: &At<std::path::PathBuf>, what: &str) -> Mistake {
    let message = format!("{} {what}", file.value.display());
    Mistake { position: file.position, path: file.path.clone(), message }
}

/// What a verified certificate says.
///
/// # Errors
/// When it cannot be read, or is not valid now.
pub(super) fn read(der: &[u8]) -> Result<ClientCertificate, ShownError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ShownError::Unreadable)?;
    if !certificate.validity().is_valid() {
        return Err(ShownError::Ended);
    }
    let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let mut read = ClientCertificate {
        subject_cn: common_name.map(str::to_owned),
        san_uris: Vec::new(),
        san_dns: Vec::new(),
        san_emails: Vec::new(),
        fingerprint_sha256: hex::encode(digest(&SHA256, der)),
        der: der.to_owned(),
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter()).into_iter().flatten();
    for name in names.take(NAMES_MAX) {
        match name {
            GeneralName::URI(name) => read.san_uris.push((*name).to_owned()),
            GeneralName::DNSName(name) => read.san_dns.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => read.san_emails.push((*name).to_owned()),
            _ => {}
        }
    }
    Ok(read)
}

/// Verifies as usual, and accepts only what can be read afterwards: what stands behind the handshake takes that for granted.
#[derive(Debug)]
struct Readable(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Readable {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        if end_entity.len() > CERTIFICATE_BYTES_MAX || X509Certificate::from_der(end_entity).is_err() {
            return Err(CertificateError::BadEncoding.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        edit(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn ascii(text: &str) -> Ia5String {
        text.try_into().expect("ASCII")
    }

    #[test]
    fn every_kind_of_name_is_read_in_its_order() {
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "alice");
            params.subject_alt_names = vec![
                SanType::URI(ascii("spiffe://test/alice")),
                SanType::DnsName(ascii("alice.test")),
                SanType::Rfc822Name(ascii("alice@test")),
                SanType::DnsName(ascii("b.test")),
            ];
        });
        let read = read(&der).expect("valid");
        assert_eq!(read.subject_cn.as_deref(), Some("alice"));
        assert_eq!(read.san_uris, ["spiffe://test/alice"]);
        assert_eq!(read.san_dns, ["alice.test", "b.test"]);
        assert_eq!(read.san_emails, ["alice@test"]);
        assert_eq!(read.fingerprint_sha256.len(), 64);
        assert!(read.fingerprint_sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(read.der, der);
    }

    #[test]
    fn names_are_bounded_and_what_ended_or_is_cut_short_is_refused() {
        let der = certificate(|params| {
            let name = |number: usize| SanType::DnsName(ascii(&format!("n{number}.test")));
            params.subject_alt_names = (0..NAMES_MAX * 2).map(name).collect();
        });
        assert_eq!(read(&der).expect("valid").san_dns.len(), NAMES_MAX);
        let ended = certificate(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(matches!(read(&ended), Err(ShownError::Ended)));
        assert!(matches!(read(&der[..der.len() / 2]), Err(ShownError::Unreadable)));
    }
}
