//! App: the one place where everything is built, started and ended.
//!
//! For: configuration file → running gateway → clean end. May touch: everything below. Promises: nothing is started before
//! everything could be built and bound; a failure says what and where; after SIGTERM the process ends as soon as the last
//! request did, and at the latest when the drain time is over. Read next: `proxy.rs`.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::api_key::ApiKey;
use common::settings::{Mistake, Report};
use common::telemetry::{LogFormat, LogSetupError};
use pingora::apps::{HttpServerOptions, ServerApp as _};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::acme::Orders;
use crate::admin::{self, Admin};
use crate::base::flood::FloodGuard;
use crate::base::http_client;
use crate::base::telemetry::access_log::AccessLog;
use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::{LogLines, Server, Workers};
use crate::config::{self, Config};
use crate::listen::devcert::{self, DevCertError};
use crate::listen::issued::Issued;
use crate::listen::listeners::{self, Listeners, NewApp};
use crate::listen::socket::{self, Door, DoorLimits};
use crate::proxy::Gateway;
use crate::reload::{ReloadError, Reloader};
use crate::snapshot::Snapshot;
use crate::stages::auth::revocations::Revocations;

/// After the drain began, connections without a request get this long to use their connection once more, so that a
/// request that was already on its way is answered rather than cut.
const IDLE_LINGER: Duration = Duration::from_millis(400);

/// After the last request, how long the access log may take to write its last lines.
const LOG_LINGER: Duration = Duration::from_secs(1);

/// Idle connections to upstreams that are kept, over all workers.
const UPSTREAM_IDLE_CONNECTIONS_MAX: usize = 4096;

/// Requests for a reload that may wait for the one under way.
const RELOADS_WAITING_MAX: usize = 8;

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
    /// The admin address could not be bound.
    #[error("listener admin cannot bind {address}: {source}")]
    BindAdmin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A listener could not be opened; the text says which and why.
    #[error("{0}")]
    Listen(String),
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

/// Checks a file and everything it names, without starting anything.
///
/// # Errors
/// Every mistake.
pub fn check(path: &Path) -> Result<(), RunError> {
    let config = config::load(path).map_err(RunError::Configuration)?;
    let metrics = Arc::new(Metrics::new()?);
    let certificates = listeners::check(&config).err();
    let snapshot = Snapshot::build(config, &metrics, &http_client::builder().build()?, &Arc::default(), None).err();
    let mistakes: Vec<_> = certificates.into_iter().chain(snapshot).flatten().collect();
    if mistakes.is_empty() { Ok(()) } else { Err(mistaken(path, mistakes)) }
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

/// A new API key, and the entry by which the file of keys knows it.
pub struct NewKey {
    /// The key, for whoever is to use it.
    pub key: String,
    /// YAML for the list `keys`.
    pub entry: String,
}

/// Makes an API key.
#[must_use]
pub fn new_key(subject: &str, name: &str, permissions: &[String], roles: &[String], days: Option<u16>) -> NewKey {
    let key = ApiKey::generate();
    // A JSON text is a YAML text.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let list = |texts: &[String]| serde_json::Value::from(texts).to_string();
    let mut entry = format!("  - id: {}\n    subject: {}\n", key.id(), quoted(subject));
    // Writing to a String cannot fail.
    if !name.is_empty() {
        let _ = writeln!(entry, "    name: {}", quoted(name));
    }
    let _ = writeln!(entry, "    secrets: [{}]", quoted(&key.secret_hash().to_hex()));
    let _ = writeln!(entry, "    permissions: {}\n    roles: {}", list(permissions), list(roles));
    if let Some(days) = days {
        let ends = chrono::Utc::now() + chrono::Duration::days(days.into());
        let _ = writeln!(entry, "    expires: \"{}\"", ends.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    }
    NewKey { key: key.reveal(), entry }
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
    let ended = runtime.block_on(serve(path, config, &metrics, log));
    // Whatever still runs is cut here; the writer ends when the last task has let go of the log.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if !writer.finish(LOG_LINGER) {
        tracing::warn!("standard output is not read; the last access log lines are lost");
    }
    ended
}

async fn serve(path: &Path, config: Config, metrics: &Arc<Metrics>, log: AccessLog) -> Result<(), RunError> {
    // Signals first: one that arrives while starting must not kill the process by default.
    let mut signals = Signals::catch()?;
    let client = http_client::builder().build()?;
    let revocations = Arc::new(Revocations::default());
    let built = Snapshot::build(config, metrics, &client, &revocations, None);
    let snapshot = Arc::new(ArcSwap::from_pointee(built.map_err(|mistakes| mistaken(path, mistakes))?));
    let first = snapshot.load_full();
    let admin = first.config.admin.map(bind_admin).transpose()?;
    let (drain, draining) = watch::channel(false);
    let limits = door_limits(&first.config.server);
    let flood = Arc::new(FloodGuard::new());
    let door = Door::new(limits, Arc::clone(&snapshot), draining.clone(), Arc::clone(&flood), Arc::clone(metrics));
    let door = Arc::new(door);
    let issued = Arc::new(Issued::default());
    let mut orders = Orders::new(Arc::clone(&issued), Arc::clone(metrics));
    let listeners = Listeners::new(Arc::clone(&door), issued, new_proxy(&first, &snapshot, log, flood));
    let mut reloader = Reloader::new(path.to_owned(), Arc::clone(metrics), client, Arc::clone(&snapshot), listeners);
    reloader.start().map_err(start_error)?;
    drop(first);
    let (reload, mut reloads) = mpsc::channel(RELOADS_WAITING_MAX);
    if let Some(socket) = admin {
        tracing::info!(listener = "admin", address = %socket.local_addr()?, "listening");
        let admin = Admin { snapshot: Arc::clone(&snapshot), metrics: Arc::clone(metrics), draining, reload };
        tokio::spawn(admin::serve(socket, admin));
    }
    loop {
        // Changes nothing unless the configuration has.
        orders.follow(&snapshot.load_full());
        let watch = snapshot.load().config.server.watch;
        tokio::select! {
            () = pause(watch) => reloader.reload_if_changed(),
            signal = signals.next() => match signal {
                // Logged and counted where it happened; the last good configuration goes on.
                Signal::Reload => drop(reloader.reload()),
                Signal::End(name) => {
                    tracing::info!(signal = name, "draining");
                    break;
                }
            },
            Some(answer) = reloads.recv() => {
                // Whoever asked may have left by now.
                let _ = answer.send(reloader.reload().map_err(|error| error.to_string()));
            }
        }
    }
    let deadline = snapshot.load().config.server.drain.duration();
    drain_all(&drain, &door, reloader.listeners(), deadline).await;
    Ok(())
}

/// Waits so long, or for ever.
async fn pause(time: Option<common::settings::Millis>) {
    match time {
        Some(time) => tokio::time::sleep(time.duration()).await,
        None => std::future::pending().await,
    }
}

/// The signals that mean something to a gateway.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

enum Signal {
    Reload,
    End(&'static str),
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

/// Makes proxies for listeners: one that serves, and one for each port that is redirected to.
fn new_proxy(
    first: &Snapshot,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    log: AccessLog,
    flood: Arc<FloodGuard>,
) -> NewApp<HttpProxy<Gateway>> {
    let (server, snapshot) = (first.config.server.clone(), Arc::clone(snapshot));
    Box::new(move |redirect_port| {
        let gateway = Gateway::new(Arc::clone(&snapshot), log.clone(), Arc::clone(&flood), redirect_port);
        Arc::new(proxy(&server, gateway))
    })
}

/// No new connections; a last request for those that are open; then wait for the requests under way.
async fn drain_all(
    drain: &watch::Sender<bool>,
    door: &Door,
    listeners: &Listeners<HttpProxy<Gateway>>,
    deadline: Duration,
) {
    drain.send_replace(true);
    let finished = tokio::time::timeout(deadline, async {
        if tokio::time::timeout(IDLE_LINGER, door.empty()).await.is_err() {
            for app in listeners.apps() {
                // Ends the connections that wait for a request.
                app.cleanup().await;
            }
            door.empty().await;
        }
    });
    match finished.await {
        Ok(()) => tracing::info!("drained"),
        Err(_) => tracing::warn!("drain time is over; the requests still under way are cut"),
    }
}

fn start_error(error: ReloadError) -> RunError {
    match error {
        ReloadError::Configuration(report) => RunError::Configuration(report),
        ReloadError::Listen(_) => RunError::Listen(error.to_string()),
    }
}

fn mistaken(path: &Path, mistakes: Vec<Mistake>) -> RunError {
    RunError::Configuration(Report::new(&path.display().to_string(), mistakes))
}

fn bind_admin(address: SocketAddr) -> Result<TcpListener, RunError> {
    socket::bind(address).map_err(|source| RunError::BindAdmin { address, source })
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
