//! Entrance: what a connection of one listener meets before HTTP.
//!
//! For: what a reload may change while the listener stays open: whether a PROXY protocol header comes first, and how TLS is
//! spoken. May touch: nothing outside. Promises: connections under way go on as they began.
//! Read next: `proxy_protocol.rs`, `tls.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use super::certs::Certificates;
use super::tls::{Terms, TlsSide};

/// The entrance of one listener.
pub(super) struct Entrance {
    proxy_protocol: AtomicBool,
    tls: Option<TlsSide>,
}

impl Entrance {
    /// Builds it; `tls` is for listeners that speak TLS.
    ///
    /// # Errors
    /// When the crypto provider lacks something, which a start tells and no request.
    pub(super) fn new(proxy_protocol: bool, tls: Option<(Certificates, Terms)>) -> Result<Self, rustls::Error> {
        let tls = tls.map(|(certificates, terms)| TlsSide::new(certificates, terms)).transpose()?;
        Ok(Self { proxy_protocol: AtomicBool::new(proxy_protocol), tls })
    }

    /// Connections from now on meet this. A listener stays one with TLS, or without.
    ///
    /// # Errors
    /// As above.
    pub(super) fn replace(
        &self,
        proxy_protocol: bool,
        tls: Option<(Certificates, Terms)>,
    ) -> Result<(), rustls::Error> {
        if let (Some(side), Some((certificates, terms))) = (&self.tls, tls) {
            side.replace(certificates, terms)?;
        }
        self.proxy_protocol.store(proxy_protocol, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a connection begins with a header that names the client.
    pub(super) fn expects_header(&self) -> bool {
        self.proxy_protocol.load(Ordering::Relaxed)
    }

    /// What shakes hands, where TLS is spoken.
    pub(super) fn tls(&self) -> Option<&TlsSide> {
        self.tls.as_ref()
    }
}
