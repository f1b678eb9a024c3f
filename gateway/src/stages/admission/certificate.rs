//! Certificate: on a route that demands a client certificate, who has shown none in the handshake is turned away.
//!
//! Who it is does not matter here; `auth::certificate` knows callers by theirs.

use common::code::Code;

use crate::base::head::Head;
use crate::base::refusal::Refusal;
use crate::stages::plan::Route;

/// Looks for the certificate. The listener has verified it, so that there is one says enough.
///
/// # Errors
/// 403.
pub(crate) fn check(head: &Head<'_>, route: &Route) -> Result<(), Refusal> {
    if !route.client_certificate.required || head.client_certificate.is_some() {
        return Ok(());
    }
    let refusal = Refusal::new(Code::CertificateRequired);
    Err(if head.encrypted { refusal } else { refusal.detail("the connection is not TLS") })
}
