//! Peer: an endpoint in Pingora's terms, and Pingora's errors in ours.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{Error, ErrorSource, ErrorType};
use rustls_pki_types::CertificateDer;

use crate::base::failure::Failure;
use crate::config::checked::{Place, Protocol, Upstream};
use crate::upstream::heartbeat::{Heartbeats, Silent};
use crate::upstream::trust::Trust;
use crate::upstream::tunnel::Tunnels;

/// Requests at a time on one HTTP/2 connection to a server; servers usually allow a hundred.
const STREAMS_MAX: usize = 100;

/// How often an HTTP/2 connection is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Sets connections for tunnels apart from those of ordinary requests.
const TUNNEL_GROUP: u64 = 0x7475_6e6e_656c;

/// Sets connections with heartbeats apart from those of ordinary requests.
const HEARTBEAT_GROUP: u64 = 0x6265_6174;

/// A prepared peer, copied for each request.
#[derive(Clone, Debug)]
pub(crate) struct PeerTemplate(HttpPeer);

/// A number for a set of authorities, so that connections are pooled apart.
fn group_of(authorities: &[CertificateDer<'static>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    authorities.hash(&mut hasher);
    hasher.finish()
}

impl PeerTemplate {
    /// A peer at this address, over TLS where `trust` says whom to believe.
    ///
    /// # Errors
    /// When the path of a socket is none that the system takes.
    pub(crate) fn new(place: &Place, upstream: &Upstream, trust: Option<&Trust>) -> Result<Self, Box<Error>> {
        let timeouts = &upstream.timeouts;
        let name = trust.map(|trust| trust.name.clone()).unwrap_or_default();
        let mut peer = match place {
            // `SocketAddr` needs no name resolution, which in Pingora would block and panic.
            Place::Ip(address) => HttpPeer::new(*address, trust.is_some(), name),
            Place::Unix(path) => HttpPeer::new_uds(path, trust.is_some(), name)?,
        };
        if let Some(identity) = trust.and_then(|trust| trust.identity.as_ref()) {
            peer.client_cert_key = Some(Arc::clone(&identity.shown));
        }
        if let Some(authorities) = trust.and_then(|trust| trust.authorities.as_ref()) {
            // `Trust::load` has parsed each of them, so that this does not panic.
            let known = authorities.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
            peer.options.ca = Some(known.collect());
            // Connections that were verified against other authorities must not be used for these.
            peer.group_key = group_of(authorities);
        }
        let options: &mut PeerOptions = &mut peer.options;
        options.connection_timeout = Some(timeouts.connect.duration());
        options.total_connection_timeout = Some(timeouts.connect.duration());
        options.read_timeout = Some(timeouts.first_byte.duration());
        options.write_timeout = Some(timeouts.first_byte.duration());
        options.idle_timeout = Some(timeouts.idle.duration());
        if upstream.protocol == Protocol::Http2 {
            options.set_http_version(2, 2);
            options.max_h2_streams = STREAMS_MAX;
            options.h2_ping_interval = Some(PING_INTERVAL);
        }
        // An upgraded connection is no place for the deadlines of a request; `websocket_peer` is for those that may be.
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        Ok(Self(peer))
    }

    /// A peer for one attempt. `read_timeout` replaces the upstream's own where a route sets one.
    pub(crate) fn peer(&self, read_timeout: Option<Duration>) -> Box<HttpPeer> {
        let mut peer = Box::new(self.0.clone());
        if read_timeout.is_some() {
            peer.options.read_timeout = read_timeout;
        }
        peer
    }

    /// A peer for one attempt to open a WebSocket, which may then be silent for `idle`. Frames have no other deadline.
    pub(crate) fn websocket_peer(&self, idle: Duration) -> Box<HttpPeer> {
        let mut peer = self.peer(Some(idle));
        peer.options.custom_l4 = Some(Arc::new(Tunnels));
        // Never one that ordinary requests have used: it does not pause.
        peer.group_key ^= TUNNEL_GROUP;
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
        peer
    }

    /// A peer for one attempt whose answer, where it brings events, is kept awake by a beat after so long a silence. The
    /// request has to say `Connection: close`: the connection follows one answer, and must not be pooled.
    pub(crate) fn heartbeat_peer(&self, read_timeout: Option<Duration>, every: Duration) -> Box<HttpPeer> {
        let mut peer = self.peer(read_timeout);
        // There always is one: `new` has set it.
        if let Some(silence_max) = peer.options.read_timeout {
            peer.options.custom_l4 = Some(Arc::new(Heartbeats { every, silence_max }));
        }
        // Never one that ordinary requests have used: nobody has followed it.
        peer.group_key ^= HEARTBEAT_GROUP;
        peer
    }
}

/// A certificate and its key, as Pingora shows them.
pub(crate) type Shown = Arc<CertKey>;

/// Makes such a pair. Both are there: who reads them has made sure.
pub(crate) fn shown(certificates: Vec<Vec<u8>>, key: Vec<u8>) -> Shown {
    Arc::new(CertKey::new(certificates, key))
}

/// Pingora's error in our words.
pub(crate) fn failure_of(error: &Error) -> Failure {
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(status), _) => Failure::Refused(*status),
        (kind, ErrorSource::Downstream) => match kind {
            ErrorType::ReadTimedout => Failure::ClientSlow,
            // The last two are a body that is not in chunks, or does not end as they do; Pingora does not export their names.
            ErrorType::InvalidHTTPHeader
            | ErrorType::H1Error
            | ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd") => Failure::ClientProtocol,
            _ => Failure::Client,
        },
        (_, ErrorSource::Internal | ErrorSource::Unset) => Failure::Internal,
        (kind, ErrorSource::Upstream) => match kind {
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
            ErrorType::ReadError if is_silence(error) => Failure::Timeout,
            ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout => Failure::Connect,
            ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::H2Error => Failure::Protocol,
            _ => Failure::Broken,
        },
    }
}

/// Whether a connection with heartbeats was given up because its server said nothing.
fn is_silence(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref::<Silent>()).is_some()
}
