//! Authority: a server's certificate, and who vouches for it.
//!
//! For: TLS without the system's certificates. May touch: the folder it is given. Promises: both live as long as the
//! folder, and nothing outside the test trusts them. Read next: `shared_answers.rs` in the folder above.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// The files of a server, as its settings name them.
pub struct Files {
    /// Its certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The certificate of the authority.
    pub authority: String,
}

/// Makes an authority, and has it vouch for a server of this name.
pub fn certify(folder: &Path, name: &str) -> Files {
    let mut of_authority = CertificateParams::default();
    of_authority.distinguished_name.push(DnType::CommonName, "Authority of a test");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of_authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a P-256 key");
    let authority = CertifiedIssuer::self_signed(of_authority, key).expect("a certificate of our own");

    let key = KeyPair::generate().expect("a P-256 key");
    let mut of_server = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
    of_server.distinguished_name.push(DnType::CommonName, name);
    let certificate = of_server.signed_by(&key, &authority).expect("the authority signs");
    let write = |file: &str, text: String| {
        let file = folder.join(file);
        std::fs::write(&file, text).expect("a temporary folder can be written");
        file.display().to_string()
    };
    Files {
        certificate: write("server.crt", certificate.pem()),
        key: write("server.key", key.serialize_pem()),
        authority: write("authority.crt", authority.pem()),
    }
}
