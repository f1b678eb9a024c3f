//! App: the one place where everything is built and joined.
//!
//! For: the commands of `main.rs`. May touch: everything below it. Promises: nothing listens before the database is up
//! to date and the development account was made or refused; after SIGTERM or SIGINT requests in flight are finished and
//! what is remembered is written down. Read next: `app/upkeep.rs`, `api/mod.rs`.

use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use common::access::Role;
use common::clock::{Clock, SystemClock};
use common::secret::Secret;
use common::traces::{self, Delivery, Tracer};
use tokio::sync::{Notify, watch};

use crate::api::{Bounds, Listener, SchemaError, ServeError, Services, Surroundings};
use crate::auth::{
    ApiKeys, Audit, AuthError, Hasher, Keyring, KeyringError, LastUsed, ListedSigningKey, PasswordError, SeedError,
    Sessions, SigningKeyError, SigningKeys, Throttle, Tokens, User, Users, Withdrawals,
};
use crate::base::health::Probe;
use crate::base::metrics::{Metrics, MetricsError};
use crate::base::time::now_seconds;
use crate::config::Config;
use crate::query::{BuildError, Queries};
use crate::shared::{Shared, SharedError, Streams};
use crate::storage::{StorageError, Store};
use crate::worker::{History, Jobs, Worker};
use crate::{api, auth, query};

mod upkeep;

/// After the last request, how long the last spans may take to be told.
const TRACES_LINGER: Duration = Duration::from_secs(1);

/// Why the program does not start, or a command does not do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("the database cannot be used")]
    Storage(#[from] StorageError),
    /// A signing key.
    #[error("the signing keys cannot be used")]
    SigningKeys(#[from] SigningKeyError),
    /// The signing keys that were made while programs ran.
    #[error("the signing keys cannot be known")]
    Keyring(#[from] KeyringError),
    /// Password hashing.
    #[error("passwords cannot be hashed")]
    Hashing(#[from] PasswordError),
    /// The development account or key, in production.
    #[error("the program does not start like this")]
    Seed(#[from] SeedError),
    /// A model's client, or a playbook.
    #[error("questions cannot be answered")]
    Model(#[from] BuildError),
    /// Redis, as it is configured. That it is away is no reason not to start.
    #[error("what processes share cannot be set up")]
    Shared(#[from] SharedError),
    /// The metrics.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] MetricsError),
    /// Traces.
    #[error("traces cannot be told")]
    Traces(#[from] traces::StartError),
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
    keyring: Keyring,
    shared: Option<Shared>,
    worker: Worker,
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
    let mut app = build(&config).await?;
    let api = listen("api", config.server.api, matches!(faces, Faces::All | Faces::Rest)).await?;
    let graphql = listen("graphql", config.server.graphql, matches!(faces, Faces::All | Faces::Graphql)).await?;
    let internal = listen("internal", config.server.internal, true).await?;

    let bounds = Bounds {
        connections_max: config.server.connections_max,
        header_timeout: config.server.header_timeout,
        keepalive: config.server.keepalive,
        drain: config.server.drain,
    };
    let (tracer, delivery) = start_traces(&config, &app.metrics)?.unzip();
    app.worker = app.worker.telling(tracer.clone());
    let around = || surroundings(&config, &app.metrics, tracer.as_ref());
    let public_router = api::public(Arc::clone(&app.services), around());
    let graphql_router = api::graphql(Arc::clone(&app.services), around(), &config.graphql)?;
    let internal_router = api::internal(Arc::clone(&app.services), around());
    // Until the last request and the last item of a batch have ended.
    let keeper = app.shared.clone().map(|shared| tokio::spawn(async move { shared.keep().await }));
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
        upkeep::note_uses(&app, stopped.clone()),
        upkeep::follow_withdrawals(&app, stopped.clone()),
        upkeep::follow_keys(&app, stopped.clone()),
        upkeep::keep_history(&app, config.history.every, stopped.clone()),
        upkeep::keep_house(&app, stopped.clone()),
    );
    if let Some(keeper) = keeper {
        keeper.abort();
    }
    // Requests that were in flight until now may have used keys too.
    upkeep::flush_uses(&app).await;
    app.store.close().await;
    if let Some(delivery) = delivery {
        let told = tokio::task::spawn_blocking(|| delivery.finish(TRACES_LINGER)).await;
        if !told.is_ok_and(|told| told) {
            tracing::warn!("the collector is slow; the last spans are lost");
        }
    }
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
    let metrics = Metrics::new()?;
    let shared = share(config, &metrics)?;
    Queries::new(config.into(), metrics, &clock, shared)?;
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
    let withdrawals = Arc::new(Withdrawals::new(store.clone(), Arc::clone(&clock), config.auth.access_token_ttl));
    let users = Users { store: store.clone(), hasher, audit, withdrawals, clock };
    let made = users.create_by_operator(name, password, role).await.map_err(StartError::User);
    store.close().await;
    made
}

/// Makes a key that signs access tokens, and gives its `kid`.
///
/// # Errors
/// When there is no secret to keep it under, another one waits, or the database fails.
pub async fn key_rotate(config: &Config, now_at_once: bool) -> Result<String, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&config.database).await?;
    let audit = Audit::new(store.clone(), Arc::clone(&clock));
    let keyring = Keyring::new(&config.auth, store.clone(), clock)?;
    let made = keyring.rotate(now_at_once, &audit).await;
    store.close().await;
    Ok(made?)
}

/// Every key that signs access tokens, did, or will.
///
/// # Errors
/// When the database fails.
pub async fn key_list(config: &Config) -> Result<Vec<ListedSigningKey>, StartError> {
    let store = Store::open(&config.database).await?;
    let keyring = Keyring::new(&config.auth, store.clone(), Arc::new(SystemClock))?;
    let listed = keyring.list().await;
    store.close().await;
    Ok(listed?)
}

/// What processes share, where Redis is configured. Nothing is connected yet.
fn share(config: &Config, metrics: &Metrics) -> Result<Option<Shared>, SharedError> {
    config.redis.as_ref().map(|settings| Shared::new(settings, metrics.redis().clone())).transpose()
}

async fn build(config: &Config) -> Result<App, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new()?;
    let configured = SigningKeys::new(&config.auth.signing_keys)?;
    let shared = share(config, &metrics)?;
    let queries = Queries::new(config.into(), metrics.clone(), &clock, shared.clone())?;
    if config.models.is_empty() {
        tracing::warn!("DEVELOPMENT: no models are configured; the embedded model answers");
    }
    let hasher = Arc::new(Hasher::new(config.auth.hashing)?);
    let store = Store::open(&config.database).await?;
    let keyring = Keyring::new(&config.auth, store.clone(), Arc::clone(&clock))?;
    let keys = keyring.follow().await?.unwrap_or(configured);
    auth::check_seed(config.environment, &store, &hasher, &keys, now_seconds(&*clock)).await?;
    let withdrawals = Arc::new(Withdrawals::new(store.clone(), Arc::clone(&clock), config.auth.access_token_ttl));
    // Before anybody shows a token.
    withdrawals.follow().await?;
    let last_used = Arc::new(LastUsed::default());
    let wake = Arc::new(Notify::new());
    let streams = shared.clone().map(|shared| Streams::new(shared, config.jobs.queued_max));
    let worker = Worker::new(
        store.clone(),
        queries.clone(),
        streams.clone(),
        Arc::clone(&wake),
        metrics.jobs().clone(),
        Arc::clone(&clock),
        config.jobs,
    );
    let jobs = Jobs {
        store: store.clone(),
        queries: queries.clone(),
        streams,
        wake,
        clock: Arc::clone(&clock),
        settings: config.jobs,
    };
    let mut services =
        services(config, &store, hasher, keys, queries, jobs, &metrics, &last_used, &withdrawals, &clock);
    services.probes.extend(shared.clone().map(|shared| Arc::new(shared) as Arc<dyn Probe>));
    Ok(App { services: Arc::new(services), store, last_used, keyring, shared, worker, clock, metrics })
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
    withdrawals: &Arc<Withdrawals>,
    clock: &Arc<dyn Clock>,
) -> Services {
    let auth = &config.auth;
    let audit = Audit::new(store.clone(), Arc::clone(clock));
    let (issuer, audience) = (auth.issuer.clone(), auth.audience.clone());
    let tokens = Tokens::new(keys, issuer, audience, auth.access_token_ttl, Arc::clone(clock));
    let tokens = Arc::new(tokens.heeding(withdrawals));
    Services {
        sessions: Sessions {
            store: store.clone(),
            hasher: Arc::clone(&hasher),
            tokens: Arc::clone(&tokens),
            withdrawals: Arc::clone(withdrawals),
            throttle: Throttle::new(auth.login, Arc::clone(clock)),
            audit: audit.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(clock),
            refresh_ttl: auth.refresh_token_ttl,
        },
        users: Users {
            store: store.clone(),
            hasher,
            audit: audit.clone(),
            withdrawals: Arc::clone(withdrawals),
            clock: Arc::clone(clock),
        },
        api_keys: ApiKeys {
            store: store.clone(),
            audit: audit.clone(),
            withdrawals: Arc::clone(withdrawals),
            last_used: Arc::clone(last_used),
            clock: Arc::clone(clock),
        },
        audit,
        tokens,
        withdrawals: Arc::clone(withdrawals),
        queries,
        jobs,
        history: History::new(store.clone(), metrics.clone(), Arc::clone(clock), config.history),
        probes: iter::once(Arc::new(store.clone()) as Arc<dyn Probe>).chain(query::probes(config)).collect(),
        metrics: metrics.clone(),
        introspection_secret: config.introspection.secret.clone(),
    }
}

/// Starts telling traces, where the configuration says so.
fn start_traces(config: &Config, metrics: &Metrics) -> Result<Option<(Tracer, Delivery)>, traces::StartError> {
    let Some(settings) = &config.traces else { return Ok(None) };
    let service = traces::Service { name: "backend", version: env!("CARGO_PKG_VERSION") };
    let metrics = metrics.clone();
    traces::start(service, settings, Arc::new(move |count: u64| metrics.spans_dropped(count))).map(Some)
}

fn surroundings(config: &Config, metrics: &Metrics, tracer: Option<&Tracer>) -> Surroundings {
    Surroundings {
        trusted_proxies: config.server.trusted_proxies.clone(),
        trusted_hosts: config.server.trusted_hosts.clone(),
        cors: config.server.cors.clone(),
        request_timeout: config.server.request_timeout,
        body_bytes_max: config.server.body_bytes_max,
        metrics: metrics.clone(),
        tracer: tracer.cloned(),
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
