//! Postgres: how the connections are opened, looked after, and brought up to date.
//!
//! For: `Store::open`. May touch: the server that `database.url` names.
//! Promises: the address, and the password in it, never prints; a statement ends after `database.statement_timeout`, a
//! wait for a connection after `database.acquire_timeout`; a connection that does not answer is not used again, and a
//! new one is opened in its place, so that a server which comes back is used without a restart.
//! Read next: `engine.rs`.

use std::time::Duration;

use common::telemetry::with_causes;
use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use super::StorageError;
use super::engine::{Timed, within};
use crate::config::PostgresDatabase;

/// What the server's administrator sees in `pg_stat_activity`, unless the address names something else.
const APPLICATION: &str = "capibara6-backend";

/// How long after the server should have ended a statement its answer is still waited for.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// Who was idle for longer is asked whether it still lives before it is used: the server may have been restarted, or a
/// firewall have forgotten the connection. Shorter than any restart takes.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a connection may take to come to rest after its use, a rollback included.
const REST_DEADLINE: Duration = Duration::from_secs(5);

/// How long one statement of a migration may take; the wait for another process that migrates is one.
const MIGRATION_STATEMENT_TIMEOUT: Duration = Duration::from_mins(10);

/// How long all migrations may take.
const MIGRATION_DEADLINE: Duration = Duration::from_mins(30);

/// Opens the connections and brings the tables up to date.
pub(super) async fn open(settings: &PostgresDatabase) -> Result<Timed<PgPool>, StorageError> {
    let options = options(settings)?;
    migrate(settings, options.clone()).await?;
    let pool = pool_options(settings.connections_max, settings.acquire_timeout)
        .connect_with(bounded(options, settings.statement_timeout))
        .await
        .map_err(StorageError::Open)?;
    Ok(Timed { on: pool, limit: settings.acquire_timeout + settings.statement_timeout + ANSWER_GRACE })
}

/// Closes the connections. A server that does not answer does not hold up the end of the program.
pub(super) async fn close(pool: &Timed<PgPool>) {
    if tokio::time::timeout(pool.limit, pool.on.close()).await.is_err() {
        tracing::warn!("the database did not let go of its connections in time");
    }
}

fn options(settings: &PostgresDatabase) -> Result<PgConnectOptions, StorageError> {
    // The parser's words may repeat a part of the address, so they are dropped.
    let options = settings.url.expose().parse::<PgConnectOptions>().map_err(|_| StorageError::Address)?;
    let named = options.get_application_name().is_some();
    Ok(if named { options } else { options.application_name(APPLICATION) })
}

/// The server ends a statement after this time, and a transaction whose process has stopped in the middle as well:
/// nobody holds a lock for longer.
fn bounded(options: PgConnectOptions, statement_timeout: Duration) -> PgConnectOptions {
    let timeout_ms = statement_timeout.as_millis();
    options.options([("statement_timeout", timeout_ms), ("idle_in_transaction_session_timeout", timeout_ms)])
}

fn pool_options(connections_max: u32, acquire_timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(acquire_timeout)
        // Both ends of its use have a question of their own: see below.
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            Box::pin(async move {
                if known.idle_for > TRUSTED_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        // Without a deadline, whose statement was given up on a silent server would keep its place for ever.
        .after_release(|connection, _| {
            Box::pin(async move { within(REST_DEADLINE, connection.ping()).await.map(|()| true) })
        })
}

/// Applies the migrations that are missing, on a connection of their own, since they may take longer than a request.
/// Safe when several processes start at once: the migrator takes an advisory lock before it looks what is missing.
async fn migrate(settings: &PostgresDatabase, options: PgConnectOptions) -> Result<(), StorageError> {
    let mut migrations: Migrator = sqlx::migrate!("migrations/postgres");
    // During a rolling update an old process may start after a new one has migrated.
    migrations.set_ignore_missing(true);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(settings.acquire_timeout)
        .connect_with(bounded(options, MIGRATION_STATEMENT_TIMEOUT))
        .await
        .map_err(StorageError::Open)?;
    let mut connection = pool.acquire().await.map_err(StorageError::Open)?;
    // `Migrator::run` is the same over a trait whose lifetimes keep the future from being sent to another thread.
    let run = migrations.run_direct(None, &mut *connection, false);
    let outcome = match tokio::time::timeout(MIGRATION_DEADLINE, run).await {
        Ok(outcome) => outcome,
        Err(_) => Err(MigrateError::Execute(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
    };
    if outcome.is_ok() {
        make_hypertable(&mut connection).await;
    }
    // The lock of a migration that failed lasts as long as its connection.
    let closed = connection.close().await;
    outcome.map_err(StorageError::Migrate)?;
    closed.map_err(StorageError::Open)
}

/// Makes the table of metric points a hypertable where `TimescaleDB` is there, in chunks of a week. Without it, or when it
/// cannot be done, the table does the same work as it is.
async fn make_hypertable(connection: &mut PgConnection) {
    let ask = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb')";
    let there = sqlx::query_scalar::<_, bool>(ask).fetch_one(&mut *connection);
    let made = match tokio::time::timeout(MIGRATION_DEADLINE, there).await {
        Ok(Ok(false)) => return,
        Ok(Ok(true)) => {
            // Rows that are there are moved, which takes as long as there are many.
            let make = sqlx::query(
                "SELECT create_hypertable('metric_points', 'at', chunk_time_interval => 604800, \
                 if_not_exists => true, migrate_data => true)",
            )
            .execute(&mut *connection);
            tokio::time::timeout(MIGRATION_DEADLINE, make).await.map(|made| made.map(|_| ()))
        }
        Ok(Err(error)) => Ok(Err(error)),
        Err(late) => Err(late),
    };
    match made {
        Ok(Ok(())) => tracing::info!("metric points lie in a hypertable"),
        Ok(Err(error)) => {
            tracing::warn!(
                error = with_causes(&error),
                "TimescaleDB does not take the metric points; the table stays"
            );
        }
        Err(_) => tracing::warn!("TimescaleDB did not answer in time; the table of metric points stays as it is"),
    }
}
