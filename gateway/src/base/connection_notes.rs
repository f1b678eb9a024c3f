//! Connection notes: what requests need to know of the connection they came by.
//!
//! For: the listener, which writes them beside the connection, and the proxy, which finds them there. May touch: nothing
//! else. Promises: a certificate is noted once, before the first request, and never changes; an introduction is made once.
//! Read next: `head_clock.rs`, `request_end.rs`, `client_certificate.rs`.

use std::sync::OnceLock;

use http::HeaderValue;

use super::client_certificate::ClientCertificate;
use super::head_clock::HeadClock;
use super::left_open::LeftOpen;
use super::request_end::RequestEnd;

/// What was noted of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionNotes {
    pub clock: HeadClock,
    pub end: RequestEnd,
    pub left_open: LeftOpen,
    certificate: OnceLock<ClientCertificate>,
    introduction: OnceLock<Introduction>,
}

/// What upstreams are told of the connection, as long as its requests ask for this host; most ask for one alone.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub host: Box<str>,
    /// The address at its other end.
    pub address: HeaderValue,
    /// Its element of `Forwarded` (RFC 7239).
    pub element: HeaderValue,
}

impl ConnectionNotes {
    /// Notes of a connection that is new: its clock stands still, and nobody has shown a certificate.
    pub(crate) fn blank() -> Self {
        Self {
            clock: HeadClock::stopped(),
            end: RequestEnd::none(),
            left_open: LeftOpen::default(),
            certificate: OnceLock::new(),
            introduction: OnceLock::new(),
        }
    }

    /// Notes what the client has shown, and was verified.
    pub(crate) fn note_certificate(&self, certificate: ClientCertificate) {
        // A connection has one handshake, so there is none yet.
        let _ = self.certificate.set(certificate);
    }

    /// The client's certificate, where it has shown one.
    pub(crate) fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.get()
    }

    /// Keeps what was made for the first request.
    pub(crate) fn introduce(&self, introduction: &Introduction) {
        self.introduction.get_or_init(|| introduction.clone());
    }

    /// What upstreams are told, where it was made for this host.
    pub(crate) fn introduction(&self, host: &str) -> Option<&Introduction> {
        self.introduction.get().filter(|known| *known.host == *host)
    }
}
