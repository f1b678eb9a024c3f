//! Storage: what is kept, in `SQLite` or in Postgres.
//!
//! For: every SQL statement of the program, named noun first (`user_create`), and written once for both engines. May
//! touch: the database; `config` and `base`. Promises: whatever reads before it writes keeps other processes from
//! interleaving (on `SQLite` by the write lock, on Postgres by the locks that its comments name); times are whole
//! seconds; every wait has a bound: `database.busy_timeout`, or `database.acquire_timeout` and
//! `database.statement_timeout`. Tables change by expand and contract: old processes go on with a new schema
//! (`migrations/README.md`).
//! Read next: `engine.rs` for how a statement serves both, `users.rs`, then `refresh_tokens.rs` for the one delicate
//! transaction.

mod api_keys;
mod audit;
mod cleaning;
mod engine;
mod error;
mod idempotency;
mod job_items;
mod jobs;
mod metric_points;
mod postgres;
mod refresh_tokens;
mod signing_keys;
mod sqlite;
mod users;
mod withdrawals;

use futures::future::BoxFuture;
use sqlx::{PgPool, SqlitePool};

use crate::base::health::Probe;
use crate::config::Database;
use engine::{Engine, Timed, Transaction, on};

pub use api_keys::{ApiKeyPage, ApiKeyRow, NewApiKey, NewSecret, OldSecret};
pub use audit::{AuditEvent, AuditKind, AuditPage, AuditRow};
pub use error::StorageError;
pub use idempotency::{NewRequest, RequestKey, RequestRow};
pub use job_items::{Holder, ItemEnd, ItemFate, Take, TakenItem};
pub use jobs::{JobItemRow, JobMade, JobRow, NewJob, QueueRoom};
pub use metric_points::{MetricStepRow, MetricSteps, NewMetricPoint};
pub use refresh_tokens::{NewRefreshToken, Rotation, Standing};
pub use signing_keys::{NewSigningKey, SigningKeyRow};
pub use users::{NewUser, UserChange, UserChanged, UserMade, UserRow};
pub use withdrawals::{Withdrawal, WithdrawalRow, WithdrawnKind};

/// Everything that is kept. Cheap to clone: the connections are shared.
#[derive(Clone, Debug)]
pub struct Store {
    pools: Engine<sqlite::Pools, Timed<PgPool>>,
}

impl Store {
    /// Opens the database (a file is created with its folder) and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be opened or reached, or a migration fails.
    pub async fn open(settings: &Database) -> Result<Self, StorageError> {
        let pools = match settings {
            Database::Sqlite(settings) => Engine::Sqlite(sqlite::open(settings).await?),
            Database::Postgres(settings) => Engine::Postgres(postgres::open(settings).await?),
        };
        Ok(Self { pools })
    }

    /// For statements that only read.
    fn read(&self) -> Engine<&SqlitePool, Timed<&PgPool>> {
        match &self.pools {
            Engine::Sqlite(pools) => Engine::Sqlite(&pools.readers),
            Engine::Postgres(Timed { on, limit }) => Engine::Postgres(Timed { on, limit: *limit }),
        }
    }

    /// For single statements that write.
    fn write(&self) -> Engine<&SqlitePool, Timed<&PgPool>> {
        match &self.pools {
            Engine::Sqlite(pools) => Engine::Sqlite(&pools.writer),
            Engine::Postgres(Timed { on, limit }) => Engine::Postgres(Timed { on, limit: *limit }),
        }
    }

    /// For several statements that belong together.
    async fn begin(&self, what: &'static str) -> Result<Transaction, StorageError> {
        Transaction::begin(self.write(), what).await
    }

    /// Closes all connections after what they are doing.
    pub async fn close(&self) {
        match &self.pools {
            Engine::Sqlite(pools) => {
                pools.readers.close().await;
                pools.writer.close().await;
            }
            Engine::Postgres(pool) => postgres::close(pool).await,
        }
    }
}

impl Probe for Store {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            // A real table, so that a file that was swapped or emptied is noticed.
            on!(self.read(), |db| {
                sqlx::query_scalar::<_, i64>("SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1) AS sample")
                    .fetch_one(db)
                    .await
            })
            .map(|_| ())
            .map_err(|error| error.to_string())
        })
    }
}

#[cfg(test)]
mod tests;
