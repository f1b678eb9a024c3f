//! App: the one place where everything is built, started and ended.
//!
//! For: configuration file → running gateway → clean end. May touch: everything below. Promises: nothing is started before
//! everything could be built and bound; a failure says what and where; after SIGTERM the process ends as soon as the last
//! request did, and at the latest when the drain time is over. Read next: `proxy.rs`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::settings::Report;
use common::telemetry::{LogFormat, LogSetupError};
use pingora::apps::{HttpServerOptions, ServerApp as _};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{self, Admin};
use crate::base::telemetry::access_log::AccessLog;
use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::{ListenerKind, LogLines, Server, Workers};
use crate::config::{self, Config};
use crate::listen::certs;
use crate::listen::devcert::{self, DevCertError};
use crate::listen::socket::{self, Door, DoorLimits};
use crate::listen::tls;
use crate::proxy::Gateway;
use crate::snapshot::Snapshot;

/// After the drain began, connections without a request get this long to use their connection once more, so that a
/// request that was already on its way is answered rather than cut.
const IDLE_LINGER: Duration = Duration::from_millis(400);

/// After the last request, how long the access log may take to write its last lines.
const LOG_LINGER: Duration = Duration::from_secs(1);

/// Idle connections to upstreams that are kept, over all workers.
const UPSTREAM_IDLE_CONNECTIONS_MAX: usize = 4096;

/// Longest chain of attempts that Pingora will make; the upstream's own `retry.attempts` is what counts.
const ATTEMPTS_CEILING: usize = 256;

/// Noise of the crates below, which the gateway tells in its own words.
const QUIET: &str =
    "pingora_core=off,pingora_proxy=off,pingora_cache=off,h2=off,hyper=warn,hyper_util=warn,reqwest=warn";

/// Why a gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong; the text is every mistake.
    #[error("{0}")]
    Configuration(Report),
    /// The log could not be set up.
    #[error("log: {0}")]
    Log(#[from] LogSetupError),
    /// A development certificate could not be made.
    #[error("development certificate {0}")]
    Certificate(DevCertError),
    /// An address could not be bound.
    #[error("listener {listener} cannot bind {address}: {source}")]
    Bind {
        /// The listener's name.
        listener: String,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS settings could not be used.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gave no thread, signal or runtime.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// The HTTP client for key sets, key lookups and health checks could not be built.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// Two metrics share a name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A listener that is bound and has what it needs.
struct Bound {
    name: Arc<str>,
    socket: TcpListener,
    tls: Option<Arc<Acceptor>>,
    redirect_port: Option<u16>,
}

/// What each listener shakes hands with, in the order of the configuration; `None` for plain ones.
type Acceptors = Vec<Option<Arc<Acceptor>>>;

/// Checks a file and everything it names, without starting anything.
///
/// # Errors
/// Every mistake.
pub fn check(path: &Path) -> Result<(), RunError> {
    let config = config::load(path).map_err(RunError::Configuration)?;
    let metrics = Arc::new(Metrics::new()?);
    build_all(path, &config, &metrics).map(|_| ())
}

/// The manual of the configuration file: `docs/configuration.md`.
#[must_use]
pub fn manual() -> String {
    config::manual::configuration()
}

/// The JSON Schema of the configuration file.
#[must_use]
pub fn schema() -> serde_json::Value {
    config::manual::schema()
}

/// Writes a development certificate for `names` into the folder `out`: `ca.crt`, `tls.crt` and `tls.key`.
///
/// # Errors
/// When a name is not a DNS name or address, or a file cannot be written.
pub fn certificate(names: Vec<String>, out: &Path) -> Result<(), RunError> {
    devcert::write(names, out).map_err(RunError::Certificate)
}

/// Runs a gateway until it is told to end.
///
/// # Errors
/// When it could not start.
pub fn run(path: &Path) -> Result<(), RunError> {
    let config = config::load(path).map_err(RunError::Configuration)?;
    let format = match config.log.format {
        LogLines::Json => LogFormat::Json,
        LogLines::Text => LogFormat::Text,
    };
    let _log_guard = common::telemetry::init(&format!("{QUIET},{}", config.log.filter.value), format)?;
    let workers = match config.server.workers {
        Workers::Auto => std::thread::available_parallelism()?.get(),
        Workers::Exactly(count) => count.into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("worker")
        .enable_all()
        .build()?;
    let metrics = Arc::new(Metrics::new()?);
    let (log, writer) = AccessLog::start(io::stdout(), metrics.access_log_lost.clone())?;
    let ended = runtime.block_on(serve(path, &config, &metrics, log));
    // Whatever still runs is cut here; the writer ends when the last task has let go of the log.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if !writer.finish(LOG_LINGER) {
        tracing::warn!("standard output is not read; the last access log lines are lost");
    }
    ended
}

async fn serve(path: &Path, config: &Config, metrics: &Arc<Metrics>, log: AccessLog) -> Result<(), RunError> {
    // Signals first: one that arrives while starting must not kill the process by default.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (snapshot, acceptors) = build_all(path, config, metrics)?;
    let listeners = bind_all(config, acceptors)?;
    let admin = config.admin.map(|address| bind("admin", address)).transpose()?;
    snapshot.start();
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let (drain, draining) = watch::channel(false);
    if let Some(socket) = admin {
        tracing::info!(listener = "admin", address = %socket.local_addr()?, "listening");
        let snapshot = Arc::clone(&snapshot);
        tokio::spawn(admin::serve(
            socket,
            Admin { snapshot, metrics: Arc::clone(metrics), draining: draining.clone() },
        ));
    }
    let addresses = snapshot.load().plan.addresses.clone();
    let door = Arc::new(Door::new(door_limits(&config.server), addresses, draining, Arc::clone(metrics)));
    let proxies = open(&door, listeners, &config.server, &snapshot, &log)?;
    drop(log);
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "draining"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "draining"),
    }
    drain_all(&drain, &door, &proxies, config.server.drain.duration()).await;
    Ok(())
}

/// Starts accepting on every listener. Plain and TLS listeners share one proxy, and so one pool of upstream connections.
fn open(
    door: &Arc<Door>,
    listeners: Vec<Bound>,
    server: &Server,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    log: &AccessLog,
) -> Result<Vec<Arc<HttpProxy<Gateway>>>, RunError> {
    let new_proxy = |redirect_port| {
        let gateway = Gateway::new(Arc::clone(snapshot), log.clone(), redirect_port);
        Arc::new(proxy(server, gateway))
    };
    let mut proxies = vec![new_proxy(None)];
    for listener in listeners {
        let proxy = match listener.redirect_port {
            None => Arc::clone(&proxies[0]),
            Some(port) => {
                proxies.push(new_proxy(Some(port)));
                Arc::clone(&proxies[proxies.len() - 1])
            }
        };
        tracing::info!(listener = %listener.name, address = %listener.socket.local_addr()?, "listening");
        tokio::spawn(Arc::clone(door).serve(listener.socket, listener.tls, proxy));
    }
    Ok(proxies)
}

/// No new connections; a last request for those that are open; then wait for the requests under way.
async fn drain_all(
    drain: &watch::Sender<bool>,
    door: &Door,
    proxies: &[Arc<HttpProxy<Gateway>>],
    deadline: Duration,
) {
    drain.send_replace(true);
    let finished = tokio::time::timeout(deadline, async {
        if tokio::time::timeout(IDLE_LINGER, door.empty()).await.is_err() {
            for proxy in proxies {
                // Ends the connections that wait for a request.
                proxy.cleanup().await;
            }
            door.empty().await;
        }
    });
    match finished.await {
        Ok(()) => tracing::info!("drained"),
        Err(_) => tracing::warn!("drain time is over; the requests still under way are cut"),
    }
}

/// Everything the configuration names, built but not started.
fn build_all(path: &Path, config: &Config, metrics: &Arc<Metrics>) -> Result<(Snapshot, Acceptors), RunError> {
    let client = http_client()?;
    let mut mistakes = Vec::new();
    let snapshot = Snapshot::build(config, metrics, &client).map_err(|found| mistakes.extend(found)).ok();
    let mut acceptors = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        acceptors.push(match &listener.kind {
            ListenerKind::Plain | ListenerKind::RedirectToHttps { .. } => None,
            ListenerKind::Tls { certificates, min_version } => match certs::load(certificates, config.environment) {
                Ok(loaded) => Some(tls::acceptor(loaded, *min_version)?),
                Err(found) => {
                    mistakes.extend(found);
                    None
                }
            },
        });
    }
    match snapshot {
        Some(snapshot) if mistakes.is_empty() => Ok((snapshot, acceptors)),
        _ => Err(RunError::Configuration(Report::new(&path.display().to_string(), mistakes))),
    }
}

/// The client for key sets, key lookups and health checks: no proxy from the environment, no redirects to elsewhere.
fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .pool_max_idle_per_host(8)
        .build()
}

fn bind_all(config: &Config, acceptors: Acceptors) -> Result<Vec<Bound>, RunError> {
    let mut bound = Vec::with_capacity(config.listeners.len());
    for (listener, tls) in config.listeners.iter().zip(acceptors) {
        let socket = bind(&listener.name, listener.bind)?;
        bound.push(Bound { name: Arc::clone(&listener.name), socket, tls, redirect_port: None });
    }
    // Ports that the system chose are known only now.
    let tls = bound.iter().find(|listener| listener.tls.is_some()).map(|listener| listener.socket.local_addr());
    let tls_port = tls.transpose()?.map(|address| address.port());
    for (listener, bound) in config.listeners.iter().zip(&mut bound) {
        if let ListenerKind::RedirectToHttps { port } = listener.kind {
            bound.redirect_port = port.or(tls_port);
        }
    }
    Ok(bound)
}

fn bind(listener: &str, address: SocketAddr) -> Result<TcpListener, RunError> {
    socket::bind(address).map_err(|source| RunError::Bind { listener: listener.to_owned(), address, source })
}

fn door_limits(server: &Server) -> DoorLimits {
    DoorLimits {
        connections_max: server.max_connections as usize,
        connections_per_address_max: server.max_connections_per_address as usize,
        handshake_timeout: server.handshake_timeout.duration(),
        header_timeout: server.header_timeout.duration(),
    }
}

fn proxy(server: &Server, gateway: Gateway) -> HttpProxy<Gateway> {
    let conf = ServerConf {
        upstream_keepalive_pool_size: UPSTREAM_IDLE_CONNECTIONS_MAX,
        max_retries: ATTEMPTS_CEILING,
        ..ServerConf::default()
    };
    let mut proxy = http_proxy(&Arc::new(conf), gateway);
    let mut options = HttpServerOptions::default();
    options.keepalive_request_limit = Some(server.keepalive_requests);
    options.h2_idle_timeout = Some(server.keepalive.duration());
    proxy.server_options = Some(options);
    // From the bounded defaults, or a single connection could ask for any amount of memory (CVE-2026-105297).
    let mut h2 = default_h2_options();
    h2.max_concurrent_streams(server.http2_streams);
    proxy.h2_options = Some(h2);
    proxy
}
