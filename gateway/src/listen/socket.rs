//! Socket: bind, accept, count, hand over, drain.
//!
//! For: a connection's way in, in order: whose it is (PROXY protocol), caps by address, handshake, HTTP. May touch: sockets,
//! the snapshot's trusted addresses. Promises: a connection has one deadline for all that comes before HTTP.
//! Read next: `entrance.rs`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::http::ResponseHeader;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::TlsRef;
use pingora::protocols::{ALPN, IO, SocketDigest, Ssl, Stream};
use pingora_limits::inflight::Inflight;
use prometheus::IntCounter;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::buffered::Buffered;
use super::client_auth::{self, ShownError};
use super::entrance::Entrance;
use super::listeners::Serves;
use super::no_request::NoRequest;
use super::proxy_protocol::{self, HeaderError};
use super::watched::{Beside, HeadLimit, Watched};
use crate::base::client_certificate::ClientCertificate;
use crate::base::connection_notes::ConnectionNotes;
use crate::base::flood::FloodGuard;
use crate::base::telemetry::metrics::Metrics;
use crate::snapshot::Snapshot;

/// Connections that may wait in the kernel before they are accepted; it caps this by `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// How long to wait after `accept` failed for want of descriptors or memory, before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of the door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DoorLimits {
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub handshake_timeout: Duration,
    pub header_timeout: Duration,
}

/// What all listeners share: the caps, and the signal to drain.
#[derive(Debug)]
pub(crate) struct Door {
    limits: DoorLimits,
    /// Whose proxies' addresses do not count as one client's: the snapshot of the moment says.
    snapshot: Arc<ArcSwap<Snapshot>>,
    places: Arc<Semaphore>,
    /// Listeners that still accept.
    accepting: AtomicUsize,
    /// Told whenever a connection or a listener ends.
    ended: Notify,
    draining: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    by_address: ByAddress,
    flood: Arc<FloodGuard>,
    head_limit: HeadLimit,
    /// Heads that were none.
    malformed: IntCounter,
}

/// Connections by address, in a sketch of fixed size: with 32,768 cells it may count a stranger's connection in, never
/// one too few.
struct ByAddress(Inflight);

impl std::fmt::Debug for ByAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByAddress")
    }
}

/// Binds an address.
///
/// # Errors
/// What the system says, such as that the address is in use.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted gateway must not wait for the old one's connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Door {
    pub(crate) fn new(
        limits: DoorLimits,
        snapshot: Arc<ArcSwap<Snapshot>>,
        draining: watch::Receiver<bool>,
        flood: Arc<FloodGuard>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            limits,
            snapshot,
            head_limit: HeadLimit {
                timeout: limits.header_timeout,
                exceeded: metrics.connections_refused.with_label_values(&["header_timeout"]),
            },
            malformed: metrics.connections_refused.with_label_values(&["malformed_head"]),
            places: Arc::new(Semaphore::new(limits.connections_max)),
            accepting: AtomicUsize::new(0),
            ended: Notify::new(),
            draining,
            metrics,
            by_address: ByAddress(Inflight::new()),
            flood,
        }
    }

    /// Accepts until the drain begins or the listener is stopped. What is in the kernel's queue by then is still taken in
    /// and served. The listener counts from the call on, not from the first time that the future is looked at.
    pub(super) fn serve<A>(
        self: Arc<Self>,
        listener: Arc<TcpListener>,
        entrance: Arc<Entrance>,
        app: Arc<A>,
        mut stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send
    where
        A: Serves,
    {
        self.accepting.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut draining = self.draining.clone();
            loop {
                let accepted = tokio::select! {
                    biased;
                    accepted = listener.accept() => accepted,
                    () = told(&mut draining) => break,
                    () = told(&mut stopped) => break,
                };
                self.take_in(accepted, &entrance, &app).await;
            }
            drop(listener);
            self.accepting.fetch_sub(1, Ordering::SeqCst);
            self.ended.notify_waiters();
        }
    }

    /// Waits until nobody accepts and every connection is gone.
    pub(crate) async fn empty(&self) {
        loop {
            // Registered before the look, so that an end in between is not missed.
            let ended = self.ended.notified();
            let accepting = self.accepting.load(Ordering::SeqCst) > 0;
            if !accepting && self.places.available_permits() == self.limits.connections_max {
                return;
            }
            ended.await;
        }
    }

    async fn take_in<A>(
        self: &Arc<Self>,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        entrance: &Arc<Entrance>,
        app: &Arc<A>,
    ) where
        A: Serves,
    {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => return,
            Err(error) => {
                tracing::error!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.connections_refused.with_label_values(&["connections"]).inc();
            return;
        };
        let (door, entrance, app) = (Arc::clone(self), Arc::clone(entrance), Arc::clone(app));
        tokio::spawn(async move { door.connection(stream, peer, entrance, app, place).await });
    }

    /// One connection, from its first byte to its end. Holds its place all the while.
    async fn connection<A>(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        entrance: Arc<Entrance>,
        app: Arc<A>,
        place: OwnedSemaphorePermit,
    ) where
        A: Serves,
    {
        let _place = Place::take(Arc::clone(&self), place);
        let deadline = Instant::now() + self.limits.handshake_timeout;
        let Some(peer) = self.whose(&mut stream, peer, &entrance, deadline).await else { return };
        let address = peer.ip().to_canonical();
        let (network, trusted, flood) = {
            let snapshot = self.snapshot.load();
            let addresses = &snapshot.plan.addresses;
            (addresses.network(address), addresses.trust(address), snapshot.connection.flood)
        };
        if !trusted && self.flood.connection(network, flood) {
            self.metrics.connections_refused.with_label_values(&["flood_guard"]).inc();
            return;
        }
        let (_counted, open) = self.by_address.0.incr(network, 1);
        let over = usize::try_from(open).is_ok_and(|open| open > self.limits.connections_per_address_max);
        // Behind a load balancer of one's own, everybody comes from its address.
        if over && !trusted {
            self.metrics.connections_refused.with_label_values(&["connections_per_address"]).inc();
            return;
        }
        let notes = Arc::new(ConnectionNotes::blank());
        let stream = self.prepare(stream, peer, &notes);
        // A handshake needs far more memory than what comes after it, and a task holds as much as it ever needs.
        let handshake = Box::pin(self.shake_hands(stream, &entrance, &notes, deadline));
        let Some(stream) = handshake.await else { return };
        if stream.selected_alpn_proto() != Some(ALPN::H2) {
            notes.clock.run();
        }
        let mut next = app.process_new(stream, &self.draining).await;
        while let Some(stream) = next {
            next = app.process_new(stream, &self.draining).await;
        }
    }

    /// Whose connection it is: that of whoever is at its other end, or, where the PROXY protocol is spoken, of whom the
    /// header names. `None` when it is to be closed.
    async fn whose(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        entrance: &Entrance,
        deadline: Instant,
    ) -> Option<SocketAddr> {
        if !entrance.expects_header() {
            return Some(peer);
        }
        let trusted = self.snapshot.load().plan.addresses.trust(peer.ip().to_canonical());
        let named = if trusted { proxy_protocol::read(stream, deadline).await } else { Err(HeaderError::Untrusted) };
        match named {
            Ok(named) => Some(named.unwrap_or(peer)),
            Err(HeaderError::Nothing) => None,
            Err(error) => {
                tracing::debug!(%peer, %error, "no PROXY protocol header");
                self.metrics.connections_refused.with_label_values(&["proxy_protocol"]).inc();
                None
            }
        }
    }

    /// A stream in Pingora's terms that knows its peer without asking the kernel again, and carries its notes to where
    /// requests are served.
    fn prepare(&self, stream: TcpStream, peer: SocketAddr, notes: &Arc<ConnectionNotes>) -> Watched {
        // Small answers must not wait for an acknowledgement; if the socket is gone already, the first read will say so.
        let _ = stream.set_nodelay(true);
        let socket = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = socket.peer_addr.set(Some(PingoraAddress::Inet(peer)));
        // Pingora's place for data of one's own is beside the answer of a CONNECT proxy, which this stands in for. A status
        // of 200 can always be built.
        let answer = ResponseHeader::build_no_case(200, Some(0)).ok();
        let proxy = answer.map(|answer| ProxyDigest::new(Box::new(answer), Some(Box::new(Arc::clone(notes)))));
        let beside = Beside { socket: Some(Arc::new(socket)), proxy: proxy.map(Arc::new) };
        Watched::new(stream, beside, Arc::clone(notes), self.head_limit.clone())
    }

    /// The stream that carries HTTP. `None` when no handshake came about.
    async fn shake_hands(
        &self,
        stream: Watched,
        entrance: &Entrance,
        notes: &Arc<ConnectionNotes>,
        deadline: Instant,
    ) -> Option<Stream> {
        let no_request = NoRequest::new(Arc::clone(notes), self.malformed.clone());
        let Some(tls) = entrance.tls() else { return Some(Box::new(Buffered::new(stream, no_request))) };
        let acceptor = tls.acceptor();
        match timeout_at(deadline, acceptor.tls_handshake(stream)).await {
            Ok(Ok(stream)) => match certificate_of(&stream) {
                Ok(certificate) => {
                    if let Some(certificate) = certificate {
                        notes.note_certificate(certificate);
                    }
                    return self.begin(Buffered::new(stream, no_request)).await;
                }
                Err(error) => tracing::debug!(%error, "client certificate refused"),
            },
            // Scanners do this all day: a line each would be a way to fill the disk.
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => {}
        }
        self.metrics.handshakes_failed.inc();
        None
    }

    /// HTTP/2 begins with bytes that stand for no request, and have the time of a head; HTTP/1.1 has a clock of its own.
    /// `None` when they did not come.
    async fn begin(&self, mut stream: Buffered<impl IO + 'static>) -> Option<Stream> {
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            stream.count_end(self.metrics.http2_ended.clone());
            match timeout(self.limits.header_timeout, stream.read_preface()).await {
                Ok(read) => read.ok()?,
                Err(_) => {
                    self.head_limit.exceeded.inc();
                    return None;
                }
            }
        }
        Some(Box::new(stream))
    }

    /// The metrics of the process.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// What the client has shown, where it was asked and did.
fn certificate_of(stream: &impl Ssl) -> Result<Option<ClientCertificate>, ShownError> {
    let shown = stream.get_ssl().and_then(TlsRef::peer_certificate_der);
    shown.map(client_auth::read).transpose()
}

/// Ends when it is told to. An error would mean that the sender is gone, which comes to the same.
async fn told(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|given| *given).await;
}

/// A connection's place. Given back when dropped, also when a task is cut short.
struct Place {
    door: Arc<Door>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    fn take(door: Arc<Door>, permit: OwnedSemaphorePermit) -> Self {
        door.metrics.connections.inc();
        Self { door, permit: Some(permit) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.metrics.connections.dec();
        // Before the others are told, or they would look too early.
        drop(self.permit.take());
        self.door.ended.notify_waiters();
    }
}

/// Errors of `accept` that concern only the connection that would have been accepted (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
