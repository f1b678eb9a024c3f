//! Peer: an endpoint in Pingora's terms, and Pingora's errors in ours.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::{Error, ErrorSource, ErrorType};

use crate::config::checked::Timeouts;

/// A prepared peer, copied for each request.
#[derive(Clone, Debug)]
pub(crate) struct PeerTemplate(HttpPeer);

/// What went wrong between a client, us and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection to the server came about.
    Connect,
    /// The server did not answer in time.
    Timeout,
    /// The server closed or reset the connection before its answer was complete.
    Broken,
    /// What the server sent is not HTTP.
    Protocol,
    /// The client left, or sent something that is not HTTP.
    Client,
    /// We refused with this status while the request was under way, such as a body over its limit.
    Refused(u16),
    /// A fault of ours.
    Internal,
}

impl PeerTemplate {
    /// A plain HTTP/1.1 peer.
    pub(crate) fn new(address: SocketAddr, timeouts: &Timeouts) -> Self {
        // `SocketAddr` needs no name resolution, which in Pingora would block and panic.
        let mut peer = HttpPeer::new(address, false, String::new());
        let options: &mut PeerOptions = &mut peer.options;
        options.connection_timeout = Some(timeouts.connect.duration());
        options.total_connection_timeout = Some(timeouts.connect.duration());
        options.read_timeout = Some(timeouts.first_byte.duration());
        options.write_timeout = Some(timeouts.first_byte.duration());
        options.idle_timeout = Some(timeouts.idle.duration());
        Self(peer)
    }

    /// A peer for one attempt. `read_timeout` replaces the upstream's own where a route sets one.
    pub(crate) fn peer(&self, read_timeout: Option<Duration>) -> Box<HttpPeer> {
        let mut peer = Box::new(self.0.clone());
        if read_timeout.is_some() {
            peer.options.read_timeout = read_timeout;
        }
        peer
    }
}

impl Failure {
    /// Reads Pingora's error.
    pub(crate) fn of(error: &Error) -> Self {
        match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(status), _) => Self::Refused(*status),
            (_, ErrorSource::Downstream) => Self::Client,
            (_, ErrorSource::Internal | ErrorSource::Unset) => Self::Internal,
            (kind, ErrorSource::Upstream) => match kind {
                ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::Timeout,
                ErrorType::ConnectTimedout
                | ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::ConnectError
                | ErrorType::TLSHandshakeFailure
                | ErrorType::TLSHandshakeTimedout => Self::Connect,
                ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::H2Error => Self::Protocol,
                _ => Self::Broken,
            },
        }
    }
}
