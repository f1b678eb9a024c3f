//! Server: sockets and connections, on hyper.
//!
//! For: listening, a cap on connections, deadlines for slow clients, and an end that cuts nobody off.
//! May touch: sockets. axum's own `serve` has none of the three, which is why the loop is ours.
//! Promises: HTTP/1.1 and HTTP/2 on one port; a connection that sends no whole request head within `header_timeout` is
//! closed; on shutdown whoever is connected or waits in the system's queue is still served, for `drain` at most; a
//! connection that has become a WebSocket counts as one until it is closed.
//! Read next: `mod.rs` for what is served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;

use super::middleware::Peer;
use crate::base::metrics::Metrics;
use crate::base::raised::Raised;

/// The largest request head, in bytes; beyond it the answer is 431.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The same for HTTP/2, as its SETTINGS count it.
const HEADER_LIST_BYTES_MAX: u32 = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// How often an HTTP/2 connection is asked whether it still lives, and how long it may take to say so.
const PING_PERIOD: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// After the listener is closed: time for requests that were already on their way to be read, before idle connections
/// are told to end.
const SETTLE: Duration = Duration::from_millis(50);
/// How long to wait when the system has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What bounds a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; more wait in the system's queue.
    pub connections_max: usize,
    /// For the first request head of a connection.
    pub header_timeout: Duration,
    /// For each later one.
    pub keepalive: Duration,
    /// For requests in flight when the end comes.
    pub drain: Duration,
}

/// A socket that listens.
pub struct Listener {
    name: &'static str,
    socket: TcpListener,
}

/// A socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not ours, or not allowed.
    #[error("listener {name} cannot listen on {address}")]
    Bind {
        /// Which listener.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Listener {
    /// Opens the socket, and tells the log where: with port 0 the system chose.
    ///
    /// # Errors
    /// `ServeError::Bind`.
    pub async fn bind(name: &'static str, address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { name, address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        tracing::info!(listener = name, address = %local, "listening");
        Ok(Self { name, socket })
    }

    /// Serves until `stop` becomes true, then finishes what is in flight.
    pub async fn serve(self, router: Router, bounds: Bounds, metrics: Metrics, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(bounds.connections_max));
        let told = stop.clone();
        let start = |(stream, peer, slot): Accepted| {
            let held = Arc::new(Held { _slot: slot, _open: metrics.connection() });
            let connected = Connected { held, stop: told.clone() };
            let connection = Connection { peer, router: router.clone(), bounds, connected };
            tokio::spawn(connection.serve(stream, graceful.watcher()));
        };
        loop {
            tokio::select! {
                biased;
                // An error means that nobody can tell us to stop any more, which is as good as being told.
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = self.accept(&slots) => start(accepted),
            }
        }
        // Whoever is in the system's queue has connected as far as they know.
        while let Some(accepted) = self.accept(&slots).now_or_never() {
            start(accepted);
        }
        let name = self.name;
        drop(self.socket);
        if graceful.count() > 0 {
            tokio::time::sleep(SETTLE).await;
        }
        let ended = async {
            graceful.shutdown().await;
            // WebSockets are not among the connections that hyper knows, but each still holds its slot.
            let all = u32::try_from(bounds.connections_max).unwrap_or(u32::MAX);
            slots.acquire_many(all).await.map(drop)
        };
        if tokio::time::timeout(bounds.drain, ended).await.is_err() {
            let open = bounds.connections_max.saturating_sub(slots.available_permits());
            tracing::warn!(listener = name, open, "the drain deadline passed; requests still in flight are cut off");
        } else {
            tracing::info!(listener = name, "drained");
        }
    }

    /// The next connection, once there is room for it.
    async fn accept(&self, slots: &Arc<Semaphore>) -> Accepted {
        loop {
            let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
                // The semaphore is never closed; without it nobody may come in.
                std::future::pending::<()>().await;
                continue;
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => return (stream, peer, slot),
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// What a connection holds while it is open: its place among `connections_max`, and its part in the metrics.
pub(super) struct Held {
    _slot: OwnedSemaphorePermit,
    _open: Raised,
}

/// The connection that a request came on, for whoever goes on with it when the request is over. Among the request's
/// extensions.
#[derive(Clone)]
pub(super) struct Connected {
    /// Kept for as long as the connection is open.
    pub(super) held: Arc<Held>,
    /// Becomes true when the program is to end.
    pub(super) stop: watch::Receiver<bool>,
}

/// One connection.
struct Connection {
    peer: SocketAddr,
    router: Router,
    bounds: Bounds,
    connected: Connected,
}

impl Connection {
    async fn serve(self, stream: TcpStream, watcher: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %self.peer, %error, "the connection is gone already");
            return;
        }
        let begun = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (begun, router, peer) = (Arc::clone(&begun), self.router.clone(), Peer(self.peer.ip()));
            let connected = self.connected.clone();
            move |mut request: Request<Incoming>| {
                begun.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(connected.clone());
                router.clone().oneshot(request)
            }
        });
        let builder = builder(self.bounds);
        let connection = watcher.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut connection = std::pin::pin!(connection);
        // hyper's own deadline for a head starts only when the HTTP version is known, and is the longer one.
        let outcome = match tokio::time::timeout(self.bounds.header_timeout, connection.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) if begun.load(Ordering::Relaxed) => connection.await,
            Err(_) => return,
        };
        if let Err(error) = outcome {
            // A client that goes away or breaks the protocol is its own affair.
            tracing::debug!(peer = %self.peer, %error, "a connection ended early");
        }
    }
}

fn builder(bounds: Bounds) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper counts the wait for the next request on a kept connection as part of reading its head.
        .header_read_timeout(bounds.keepalive)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(PING_PERIOD)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
