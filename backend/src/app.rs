//! App: the one place where everything is built and joined.
//!
//! For: the commands of `main.rs`. May touch: everything below it. Promises: nothing listens before the database is up
//! to date and the development account was made or refused; after SIGTERM or SIGINT requests in flight are finished and
//! what is remembered is written down. Read next: `api/mod.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use common::access::Role;
use common::clock::{Clock, SystemClock};
use common::secret::Secret;
use common::telemetry::with_causes;
use tokio::sync::{Notify, watch};

use crate::api::{Bounds, Listener, SchemaError, ServeError, Services, Surroundings};
use crate::auth::{
    ApiKeys, Audit, AuthError, FLUSH_PERIOD, Hasher, LastUsed, PasswordError, SeedError, Sessions, SigningKeyError,
    SigningKeys, Throttle, Tokens, User, Users,
};
use crate::base::health::Probe;
use crate::base::metrics::{Metrics, MetricsError};
use crate::base::time::{now_seconds, to_signed};
use crate::config::Config;
use crate::query::{BuildError, Queries};
use crate::storage::{StorageError, Store};
use crate::worker::{Jobs, Worker};
use crate::{api, auth};

/// How often what has expired is deleted; the first time is at start.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_hours(1);

/// Batches deleted in one go; what is left waits for the next hour.
const HOUSEKEEPING_BATCHES_MAX: usize = 100;

/// Why the program does not start, or a command does not do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database cannot be used")]
    Storage(#[from] StorageError),
    /// A signing key.
    #[error("the signing keys cannot be used")]
    SigningKeys(#[from] SigningKeyError),
    /// Password hashing.
    #[error("passwords cannot be hashed")]
    Hashing(#[from] PasswordError),
    /// The development account or key, in production.
    #[error("the program does not start like this")]
    Seed(#[from] SeedError),
    /// A model's client, or a playbook.
    #[error("questions cannot be answered")]
    Model(#[from] BuildError),
    /// The metrics.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] MetricsError),
    /// The GraphQL schema.
    #[error("GraphQL cannot be served")]
    Schema(#[from] SchemaError),
    /// A listener.
    #[error("a listener cannot be opened")]
    Listen(#[from] ServeError),
    /// The signals.
    #[error("signals cannot be caught")]
    Signals(#[source] std::io::Error),
    /// A user that was to be made.
    #[error("the user cannot be made")]
    User(#[source] AuthError),
}

/// What a process serves, besides what is internal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faces {
    /// Everything.
    All,
    /// REST alone.
    Rest,
    /// GraphQL alone.
    Graphql,
    /// Nothing: it answers batches.
    Worker,
}

/// What is shared by the listeners and the work behind them.
struct App {
    services: Arc<Services>,
    store: Store,
    last_used: Arc<LastUsed>,
    worker: Worker,
    jobs_kept: Duration,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// Serves until a signal comes.
///
/// # Errors
/// When anything that is needed cannot be had.
pub async fn run(config: Config, faces: Faces) -> Result<(), StartError> {
    // First of all: a signal that comes while starting must not kill the program by default.
    let (stop, stopped) = watch::channel(false);
    catch_signals(stop)?;
    let app = build(&config).await?;
    let api = listen("api", config.server.api, matches!(faces, Faces::All | Faces::Rest)).await?;
    let graphql = listen("graphql", config.server.graphql, matches!(faces, Faces::All | Faces::Graphql)).await?;
    let internal = listen("internal", config.server.internal, true).await?;

    let bounds = Bounds {
        connections_max: config.server.connections_max,
        header_timeout: config.server.header_timeout,
        keepalive: config.server.keepalive,
        drain: config.server.drain,
    };
    let around = || surroundings(&config, &app.metrics);
    let public_router = api::public(Arc::clone(&app.services), around());
    let graphql_router = api::graphql(Arc::clone(&app.services), around(), &config.graphql)?;
    let internal_router = api::internal(Arc::clone(&app.services), around());
    let serve = async |listener: Option<Listener>, router: Router| {
        if let Some(listener) = listener {
            listener.serve(router, bounds, app.metrics.clone(), stopped.clone()).await;
        }
    };
    tokio::join!(
        serve(api, public_router),
        serve(graphql, graphql_router),
        serve(internal, internal_router),
        answer_batches(&app, faces, config.server.drain, stopped.clone()),
        note_uses(&app, stopped.clone()),
        keep_house(&app, stopped.clone()),
    );
    // Requests that were in flight until now may have used keys too.
    flush_uses(&app).await;
    app.store.close().await;
    tracing::info!("ended");
    Ok(())
}

/// Opens the socket of a face, if the process shows it.
async fn listen(name: &'static str, address: SocketAddr, shown: bool) -> Result<Option<Listener>, ServeError> {
    if shown { Listener::bind(name, address).await.map(Some) } else { Ok(None) }
}

/// Checks what can be checked without touching the database or the network.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> Result<(), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    SigningKeys::new(&config.auth.signing_keys)?;
    Queries::new(config.into(), Metrics::new()?, &clock)?;
    Ok(())
}

/// Brings the database up to date.
///
/// # Errors
/// When it cannot be opened or migrated.
pub async fn migrate(config: &Config) -> Result<(), StartError> {
    let store = Store::open(&config.database).await?;
    store.close().await;
    Ok(())
}

/// Makes a user.
///
/// # Errors
/// When the name is taken, the password too short, or the database fails.
pub async fn user_add(config: &Config, name: &str, password: Secret, role: Role) -> Result<User, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&config.database).await?;
    let hasher = Arc::new(Hasher::new(config.auth.hashing)?);
    let audit = Audit::new(store.clone(), Arc::clone(&clock));
    let users = Users { store: store.clone(), hasher, audit, clock };
    let made = users.create_by_operator(name, password, role).await.map_err(StartError::User);
    store.close().await;
    made
}

async fn build(config: &Config) -> Result<App, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new()?;
    let keys = SigningKeys::new(&config.auth.signing_keys)?;
    let queries = Queries::new(config.into(), metrics.clone(), &clock)?;
    if config.models.is_empty() {
        tracing::warn!("DEVELOPMENT: no models are configured; the embedded model answers");
    }
    let hasher = Arc::new(Hasher::new(config.auth.hashing)?);
    let store = Store::open(&config.database).await?;
    auth::check_seed(config.environment, &store, &hasher, &keys, now_seconds(&*clock)).await?;
    let last_used = Arc::new(LastUsed::default());
    let wake = Arc::new(Notify::new());
    let worker = Worker::new(
        store.clone(),
        queries.clone(),
        Arc::clone(&wake),
        metrics.jobs().clone(),
        Arc::clone(&clock),
        config.jobs,
    );
    let jobs = Jobs {
        store: store.clone(),
        queries: queries.clone(),
        wake,
        clock: Arc::clone(&clock),
        settings: config.jobs,
    };
    let services = services(config, &store, hasher, keys, queries, jobs, &metrics, &last_used, &clock);
    let jobs_kept = config.jobs.retention;
    Ok(App { services: Arc::new(services), store, last_used, worker, jobs_kept, clock, metrics })
}

#[expect(clippy::too_many_arguments, reason = "this is the place where everything meets")]
fn services(
    config: &Config,
    store: &Store,
    hasher: Arc<Hasher>,
    keys: SigningKeys,
    queries: Queries,
    jobs: Jobs,
    metrics: &Metrics,
    last_used: &Arc<LastUsed>,
    clock: &Arc<dyn Clock>,
) -> Services {
    let auth = &config.auth;
    let audit = Audit::new(store.clone(), Arc::clone(clock));
    let tokens = Arc::new(Tokens::new(
        keys,
        auth.issuer.clone(),
        auth.audience.clone(),
        auth.access_token_ttl,
        Arc::clone(clock),
    ));
    Services {
        sessions: Sessions {
            store: store.clone(),
            hasher: Arc::clone(&hasher),
            tokens: Arc::clone(&tokens),
            throttle: Throttle::new(auth.login, Arc::clone(clock)),
            audit: audit.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(clock),
            refresh_ttl: auth.refresh_token_ttl,
        },
        users: Users { store: store.clone(), hasher, audit: audit.clone(), clock: Arc::clone(clock) },
        api_keys: ApiKeys {
            store: store.clone(),
            audit: audit.clone(),
            last_used: Arc::clone(last_used),
            clock: Arc::clone(clock),
        },
        audit,
        tokens,
        queries,
        jobs,
        probes: vec![Arc::new(store.clone()) as Arc<dyn Probe>],
        metrics: metrics.clone(),
        introspection_secret: config.introspection.secret.clone(),
    }
}

fn surroundings(config: &Config, metrics: &Metrics) -> Surroundings {
    Surroundings {
        trusted_proxies: config.server.trusted_proxies.clone(),
        trusted_hosts: config.server.trusted_hosts.clone(),
        cors: config.server.cors.clone(),
        request_timeout: config.server.request_timeout,
        body_bytes_max: config.server.body_bytes_max,
        metrics: metrics.clone(),
    }
}

/// Tells `stop` when SIGTERM or SIGINT comes.
fn catch_signals(stop: watch::Sender<bool>) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is in flight"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is in flight"),
        }
        stop.send_replace(true);
        // Kept alive until the program ends, so that nobody takes a closed channel for a second signal.
        stop.closed().await;
    });
    Ok(())
}

/// Answers what waits in the database, where the process does that.
async fn answer_batches(app: &App, faces: Faces, drain: Duration, stopped: watch::Receiver<bool>) {
    if matches!(faces, Faces::All | Faces::Worker) {
        Box::pin(app.worker.run(stopped, drain)).await;
    }
}

/// Writes down when keys were used, on a timer.
async fn note_uses(app: &App, mut stopped: watch::Receiver<bool>) {
    while !wait(FLUSH_PERIOD, &mut stopped).await {
        flush_uses(app).await;
    }
}

async fn flush_uses(app: &App) {
    if let Err(error) = app.last_used.flush(&app.store).await {
        tracing::error!(error = with_causes(&error), "the last uses of API keys could not be noted");
    }
}

/// Deletes what has expired, at start and on a timer.
async fn keep_house(app: &App, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = clean(&app.store, app.jobs_kept, now_seconds(&*app.clock)).await {
            tracing::error!(error = with_causes(&error), "what has expired could not be deleted");
        }
        if wait(HOUSEKEEPING_PERIOD, &mut stopped).await {
            return;
        }
    }
}

async fn clean(store: &Store, jobs_kept: Duration, now: i64) -> Result<(), StorageError> {
    for _ in 0..HOUSEKEEPING_BATCHES_MAX {
        if !store.audit_events_clean(now).await? {
            break;
        }
    }
    for _ in 0..HOUSEKEEPING_BATCHES_MAX {
        if !store.refresh_tokens_clean(now).await? {
            break;
        }
    }
    for _ in 0..HOUSEKEEPING_BATCHES_MAX {
        if !store.jobs_clean(now.saturating_sub(to_signed(jobs_kept.as_secs()))).await? {
            break;
        }
    }
    Ok(())
}

/// Waits for the period, or until the program is to end; says whether it is.
async fn wait(period: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(period) => false,
        _ = stopped.wait_for(|stop| *stop) => true,
    }
}
