//! Certificate: what the client has shown in the handshake, and the listener verified, says who it is.

use std::sync::Arc;

use common::code::Code;

use super::identity::{Identity, Method, Proof};
use crate::base::client_certificate::ClientCertificate as Shown;
use crate::base::refusal::Refusal;
use crate::config::checked::{CertificateName, ClientCertificate};

/// Reads callers off certificates.
#[derive(Debug)]
pub(crate) struct CertificateVerifier {
    settings: ClientCertificate,
}

impl CertificateVerifier {
    pub(super) fn new(settings: ClientCertificate) -> Self {
        Self { settings }
    }

    /// Whose certificate it is.
    ///
    /// # Errors
    /// 401 when it does not have the name that is asked for.
    pub(super) fn verify(&self, shown: &Shown) -> Result<Arc<Identity>, Refusal> {
        let subject = match self.settings.subject {
            CertificateName::CommonName => shown.subject_cn.as_deref(),
            CertificateName::SanUri => shown.san_uris.first().map(String::as_str),
            CertificateName::SanDns => shown.san_dns.first().map(String::as_str),
            CertificateName::SanEmail => shown.san_emails.first().map(String::as_str),
            CertificateName::Fingerprint => Some(shown.fingerprint_sha256.as_str()),
        };
        let permissions: Vec<&str> = self.settings.permissions.iter().map(String::as_str).collect();
        let roles: Vec<&str> = self.settings.roles.iter().map(String::as_str).collect();
        let proof = Proof {
            subject: subject.unwrap_or_default(),
            permissions: &permissions,
            roles: &roles,
            ..Proof::default()
        };
        let identity = Identity::new(Method::Certificate, proof);
        identity.map(Arc::new).ok_or_else(|| {
            Refusal::new(Code::CertificateInvalid)
                .detail("the certificate does not have the name that callers are known by")
        })
    }
}
