//! App: the one place where everything is built, started and ended.
//!
//! For: configuration file → running gateway → clean end. May touch: everything below. Promises: nothing is started before
//! everything could be built and bound; a failure says what and where; after SIGTERM the process ends as soon as the last
//! request did, and at the latest when the drain time is over. Read next: `app/running.rs`, `proxy.rs`.

mod questions;
mod running;
mod succession;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::api_key::ApiKey;
use common::health::{self, HealthError};
use common::settings::{At, Mistake, Report};
use common::telemetry::{LogFormat, LogSetupError};
use common::traces::{self, Delivery, Tracer};
use pingora::apps::{HttpServerOptions, ServerApp as _};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::{mpsc, watch};

pub use self::questions::{Finding, Question, Who, explain, routes, test};
use self::running::{Running, Signals, Told};
use self::succession::{Succession, open_admin};
use crate::acme::Orders;
use crate::admin::{self, Admin};
use crate::base::flood::FloodGuard;
use crate::base::http_client;
use crate::base::service_manager::ServiceManager;
use crate::base::telemetry::access_log::AccessLog;
use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::{LogLines, Server, Workers};
use crate::config::{self, Config};
use crate::listen::devcert::{self, DevCertError};
use crate::listen::issued::Issued;
use crate::listen::listeners::{self, Listeners, NewApp};
use crate::listen::socket::{Door, DoorLimits};
use crate::proxy::Gateway;
use crate::reload::{ReloadError, Reloader};
use crate::snapshot::Snapshot;
use crate::stages::auth::revocations::Revocations;

/// After the drain began, connections without a request get this long to use their connection once more, so that a
/// request that was already on its way is answered rather than cut.
const IDLE_LINGER: Duration = Duration::from_millis(400);

/// After the last request, how long the access log may take to write its last lines.
const LOG_LINGER: Duration = Duration::from_secs(1);

/// After that, how long the last spans may take to be told.
const TRACES_LINGER: Duration = Duration::from_secs(1);

/// Idle connections to upstreams that are kept, over all workers.
const UPSTREAM_IDLE_CONNECTIONS_MAX: usize = 4096;

/// Requests for a reload that may wait for the one under way.
const RELOADS_WAITING_MAX: usize = 8;

/// Longest chain of attempts that Pingora will make; the upstream's own `retry.attempts` is what counts.
const ATTEMPTS_CEILING: usize = 256;

/// Noise of the crates below, which the gateway tells in its own words.
const QUIET: &str =
    "pingora_core=off,pingora_proxy=off,pingora_cache=off,h2=off,hyper=warn,hyper_util=warn,reqwest=warn";

/// How a gateway comes to its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It binds them.
    Afresh,
    /// It takes them from the running gateway, which then drains.
    TakingOver,
}

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
    /// There is no running gateway to take over from.
    #[error("{0}")]
    NothingToTakeOver(String),
    /// The running gateway did not hand over, or the place for the next one cannot be had.
    #[error("upgrade: {0}")]
    Handover(String),
    /// The system gave no thread, signal or runtime.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// The HTTP client for key sets, key lookups and health checks could not be built.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// Traces cannot be told.
    #[error("traces: {}", common::telemetry::with_causes(.0))]
    Traces(#[from] traces::StartError),
    /// The gateway that was asked for its health is not well.
    #[error("{0}")]
    Unwell(#[from] HealthError),
    /// It has no admin listener on which it could be asked.
    #[error("the configuration has no `admin`, so nobody can be asked")]
    NobodyToAsk,
    /// The answer cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The question does not say what is asked.
    #[error("{0}")]
    Question(String),
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
    let traces = traces_settings(&config).err();
    let certificates = listeners::check(&config).err();
    let snapshot = Snapshot::build(config, &metrics, &http_client::builder().build()?, &Arc::default(), None).err();
    let mistakes: Vec<_> = certificates.into_iter().chain(snapshot).chain(traces).flatten().collect();
    if mistakes.is_empty() { Ok(()) } else { Err(mistaken(path, mistakes)) }
}

/// Asks the gateway that runs on this machine with this file whether it is ready, or only whether it is `live`.
///
/// # Errors
/// When it is not, or cannot be asked.
pub fn health(path: &Path, live: bool) -> Result<(), RunError> {
    let config = config::load(path).map_err(RunError::Configuration)?;
    let address = config.admin.ok_or(RunError::NobodyToAsk)?;
    Ok(health::ask(address, if live { "/health/live" } else { "/health/ready" })?)
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
pub fn run(path: &Path, start: Start) -> Result<(), RunError> {
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
    let (tracer, delivery) = start_traces(path, &config, &metrics)?.unzip();
    let ended = runtime.block_on(serve(path, config, start, &metrics, log, tracer));
    // Whatever still runs is cut here; the writer ends when the last task has let go of the log.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if !writer.finish(LOG_LINGER) {
        tracing::warn!("standard output is not read; the last access log lines are lost");
    }
    if delivery.is_some_and(|delivery| !delivery.finish(TRACES_LINGER)) {
        tracing::warn!("the collector is slow; the last spans are lost");
    }
    ended
}

/// Where traces are told, with the secrets of it.
fn traces_settings(config: &Config) -> Result<Option<traces::Settings>, Vec<Mistake>> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let mistake = |(at, message): (At<()>, String)| Mistake { position: at.position, path: at.path, message };
    traces.resolve().map(Some).map_err(|mistakes| mistakes.into_iter().map(mistake).collect())
}

/// Starts telling traces, where the configuration says so.
fn start_traces(path: &Path, config: &Config, metrics: &Metrics) -> Result<Option<(Tracer, Delivery)>, RunError> {
    let settings = traces_settings(config).map_err(|mistakes| mistaken(path, mistakes))?;
    let Some(settings) = settings else { return Ok(None) };
    let service = traces::Service { name: "gateway", version: env!("CARGO_PKG_VERSION") };
    let dropped = metrics.spans_dropped.clone();
    Ok(Some(traces::start(service, &settings, Arc::new(move |count: u64| dropped.inc_by(count)))?))
}

async fn serve(
    path: &Path,
    config: Config,
    start: Start,
    metrics: &Arc<Metrics>,
    log: AccessLog,
    tracer: Option<Tracer>,
) -> Result<(), RunError> {
    // Signals first: one that arrives while starting must not kill the process by default.
    let mut signals = Signals::catch()?;
    let manager = Arc::new(ServiceManager::of_environment());
    let client = http_client::builder().build()?;
    let revocations = Arc::new(Revocations::default());
    let built = Snapshot::build(config, metrics, &client, &revocations, None);
    let snapshot = Arc::new(ArcSwap::from_pointee(built.map_err(|mistakes| mistaken(path, mistakes))?));
    let first = snapshot.load_full();
    if start == Start::TakingOver {
        // Before the running gateway hears of this one.
        listeners::check(&first.config).map_err(|mistakes| mistaken(path, mistakes))?;
    }
    let (succession, mut inherited) = Succession::begin(&first.config, start).await?;
    let admin = first.config.admin.map(|address| open_admin(address, &mut inherited)).transpose()?;
    let (drain, draining) = watch::channel(false);
    let limits = door_limits(&first.config.server);
    let flood = Arc::new(FloodGuard::new());
    let door = Door::new(limits, Arc::clone(&snapshot), draining.clone(), Arc::clone(&flood), Arc::clone(metrics));
    let door = Arc::new(door);
    let issued = Arc::new(Issued::default());
    let orders = Orders::new(Arc::clone(&issued), Arc::clone(metrics));
    let proxies = new_proxy(&first, &snapshot, log, tracer, flood);
    let listeners = Listeners::new(Arc::clone(&door), Arc::clone(&issued), proxies);
    let file = path.to_owned();
    let reloader =
        Reloader::new(file, Arc::clone(metrics), client, Arc::clone(&snapshot), listeners, Arc::clone(&manager));
    let mut running = Running { snapshot, reloader, orders, admin: None };
    let prepared = running.reloader.begin(&mut inherited).map_err(start_error)?;
    succession.settle(&first, &issued, &mut running.orders, &mut signals).await?;
    running.reloader.open(prepared).map_err(start_error)?;
    // Sockets that the configuration does not want are closed with it.
    drop((first, inherited));
    let (reload, reloads) = mpsc::channel(RELOADS_WAITING_MAX);
    let (leave, left) = watch::channel(false);
    if let Some((socket, handle)) = admin {
        tracing::info!(listener = "admin", address = %handle.local, "listening");
        running.admin = Some(handle);
        let snapshot = Arc::clone(&running.snapshot);
        tokio::spawn(admin::serve(socket, Admin { snapshot, metrics: Arc::clone(metrics), draining, reload }, left));
    }
    let (ask, asks) = mpsc::channel(1);
    let (took_over, giver) = succession.complete(ask).await?;
    if took_over {
        manager.took_over();
    } else {
        manager.ready();
    }
    let mut told = Told { signals, reloads, asks };
    let end = running.until_end(&mut told).await;
    running.tell(&end, &manager, &leave);
    if let Some(giver) = giver {
        giver.abort();
    }
    let deadline = running.snapshot.load().config.server.drain.duration();
    drain_all(&drain, &door, running.reloader.listeners(), deadline).await;
    Ok(())
}

/// Makes proxies for listeners: one that serves, and one for each port that is redirected to.
fn new_proxy(
    first: &Snapshot,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    log: AccessLog,
    tracer: Option<Tracer>,
    flood: Arc<FloodGuard>,
) -> NewApp<HttpProxy<Gateway>> {
    let (server, snapshot) = (first.config.server.clone(), Arc::clone(snapshot));
    Box::new(move |redirect_port| {
        let (log, tracer) = (log.clone(), tracer.clone());
        let gateway = Gateway::new(Arc::clone(&snapshot), log, tracer, Arc::clone(&flood), redirect_port);
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
    // Pingora counts how often a connection is used again.
    options.keepalive_request_limit = Some(server.keepalive_requests.saturating_sub(1));
    options.h2_idle_timeout = Some(server.keepalive.duration());
    proxy.server_options = Some(options);
    // From the bounded defaults, or a single connection could ask for any amount of memory (CVE-2026-105297).
    let mut h2 = default_h2_options();
    h2.max_concurrent_streams(server.http2_streams);
    proxy.h2_options = Some(h2);
    proxy
}
