//! Head: what the stages see of a request, in plain HTTP types.
//!
//! For: keeping Pingora's session out of the stages, so that each can be tested without a socket.
//! May touch: `http` types. Promises: borrows only; nothing is copied or parsed here.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::client_certificate::ClientCertificate;
use super::connection_notes::ConnectionNotes;

/// The head of one request, borrowed from the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub method: &'a Method,
    /// The target's path as sent, without query.
    pub path: &'a [u8],
    /// What stands behind the first `?` of the target.
    pub query: Option<&'a [u8]>,
    /// Length of the whole target as sent, query included.
    pub target_bytes: usize,
    /// `:authority` of HTTP/2, or the host of an absolute target; else HTTP/1.1 carries `Host` among the headers.
    pub authority: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The whole head as it was sent, where it came by HTTP/1.1: a parser has tidied up what is in the fields above.
    pub raw: Option<&'a [u8]>,
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// Whether the connection is TLS.
    pub encrypted: bool,
    /// Whether the request came by HTTP/2 rather than HTTP/1.1.
    pub http2: bool,
    /// The certificate that the client has shown, where the listener asked for one and verified it.
    pub client_certificate: Option<&'a ClientCertificate>,
    /// What was noted of the connection, where there is one.
    pub notes: Option<&'a ConnectionNotes>,
}

/// How often a header is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occurrence<'a> {
    Absent,
    Once(&'a HeaderValue),
    Repeated,
}

/// The method of `Head::plain`.
#[cfg(any(test, fuzzing))]
static GET: Method = Method::GET;

impl<'a> Head<'a> {
    /// `GET /` with these headers, from this machine and by HTTP/1.1 over TLS: what a test begins with.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn plain(headers: &'a HeaderMap) -> Self {
        Self {
            method: &GET,
            path: b"/",
            query: None,
            target_bytes: 1,
            authority: None,
            headers,
            raw: None,
            peer: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            encrypted: true,
            http2: false,
            client_certificate: None,
            notes: None,
        }
    }

    /// A header that must not be repeated: which of two values counts would be a guess.
    pub(crate) fn single(&self, name: &HeaderName) -> Occurrence<'a> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Occurrence::Absent,
            (Some(value), None) => Occurrence::Once(value),
            (Some(_), Some(_)) => Occurrence::Repeated,
        }
    }

    /// The host that was asked for, as sent (port included); `None` when there is none or more than one.
    pub(crate) fn host(&self) -> Option<&'a str> {
        if let Some(authority) = self.authority {
            return Some(authority);
        }
        match self.single(&http::header::HOST) {
            Occurrence::Once(value) => value.to_str().ok(),
            Occurrence::Absent | Occurrence::Repeated => None,
        }
    }
}
