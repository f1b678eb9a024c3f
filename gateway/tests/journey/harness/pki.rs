//! PKI: a certificate authority that lives as long as the test.
//!
//! For: TLS without the system's certificates. May touch: the folder it is given.
//! Promises: keys are P-256, nothing it signed is trusted outside the test. Read next: `tls.rs`.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa};
use rcgen::{KeyPair, KeyUsagePurpose};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// The authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a client shows, and the key that proves it.
pub struct Identity {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// Its key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key().into()
    }
}

impl Authority {
    /// Makes a new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Journey test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a P-256 key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate of our own") }
    }

    /// Issues a certificate for one DNS name, writes it and its key to `folder`, and returns the two as the gateway's
    /// settings name them: a YAML flow mapping.
    pub fn issue(&self, folder: &Path, name: &str) -> String {
        self.issue_as(folder, name, name)
    }

    /// The same, in files that are called otherwise.
    pub fn issue_as(&self, folder: &Path, stem: &str, name: &str) -> String {
        self.issue_with(folder, stem, name, |_| {})
    }

    /// The same, with what `edit` makes of the certificate.
    pub fn issue_with(
        &self,
        folder: &Path,
        stem: &str,
        name: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let key = KeyPair::generate().expect("a P-256 key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
        params.distinguished_name.push(DnType::CommonName, name);
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let write = |extension: &str, text: String| {
            let file = folder.join(format!("{stem}.{extension}"));
            std::fs::write(&file, text).expect("a temporary folder can be written");
            file.display().to_string()
        };
        let cert = write("crt", certificate.pem());
        let key = write("key", key.serialize_pem());
        format!("{{ cert: \"{cert}\", key: \"{key}\" }}")
    }

    /// Issues a certificate for a client of this common name, with what `edit` makes of it.
    pub fn client(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a P-256 key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Identity { certificate: certificate.into(), key: PrivatePkcs8KeyDer::from(key.serialize_der()) }
    }

    /// Its own certificate, as PEM.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A store that trusts it and nobody else.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("our own certificate is sound");
        roots
    }

    /// Writes its own certificate to a folder, for a program that is to trust it.
    pub fn write_certificate(&self, folder: &Path) -> String {
        let file = folder.join("authority.crt");
        std::fs::write(&file, self.certificate_pem()).expect("a temporary folder can be written");
        file.display().to_string()
    }

    /// The same, of a server that wants to see a certificate of this authority.
    pub fn demanding_acceptor(&self, name: &str) -> TlsAcceptor {
        testkit::install_crypto();
        let key = KeyPair::generate().expect("a P-256 key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(self.roots())).build();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier.expect("a sound authority"))
            .with_single_cert(vec![certificate.into()], key);
        TlsAcceptor::from(Arc::new(config.expect("a key that fits its certificate")))
    }

    /// What a server shakes hands with, whose certificate is for one name.
    pub fn acceptor(&self, name: &str) -> TlsAcceptor {
        testkit::install_crypto();
        let key = KeyPair::generate().expect("a P-256 key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.into()], key);
        TlsAcceptor::from(Arc::new(config.expect("a key that fits its certificate")))
    }
}
