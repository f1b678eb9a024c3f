//! Development certificates: a throw-away authority and a certificate signed by it.
//!
//! For: `make run` and tests. May touch: the folder it is given. Promises: keys are readable by their owner only; the
//! authority's key is not kept, so nothing else can ever be signed with it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::certs::DEVELOPMENT_AUTHORITY;

/// Why no certificate came about.
#[derive(Debug, thiserror::Error)]
pub enum DevCertError {
    /// A name cannot be put into a certificate, or signing failed.
    #[error("cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Writes `ca.crt`, `tls.crt` and `tls.key` into `out`, replacing what is there.
///
/// # Errors
/// When a name is not a DNS name or address, or a file cannot be written.
pub(crate) fn write(names: Vec<String>, out: &Path) -> Result<(), DevCertError> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, DEVELOPMENT_AUTHORITY);
    let authority_certificate = authority.self_signed(&authority_key)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(authority, authority_key))?;
    std::fs::create_dir_all(out)?;
    write_file(&out.join("ca.crt"), &authority_certificate.pem(), 0o644)?;
    write_file(&out.join("tls.crt"), &certificate.pem(), 0o644)?;
    write_file(&out.join("tls.key"), &key.serialize_pem(), 0o600)?;
    Ok(())
}

fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // A new file each time: the mode of one that is there already would stay as it is.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}
