//! Client certificate: what is told of the certificate that a client has shown and that was verified.

/// What stages and upstreams need of it, read once a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// Common name of the subject.
    pub subject_cn: Option<String>,
    /// Alternative names, by their kinds, in the certificate's order.
    pub san_uris: Vec<String>,
    pub san_dns: Vec<String>,
    pub san_emails: Vec<String>,
    /// SHA-256 of the whole certificate, in lower-case hexadecimal digits.
    pub fingerprint_sha256: String,
    /// The certificate itself.
    pub der: Vec<u8>,
}
