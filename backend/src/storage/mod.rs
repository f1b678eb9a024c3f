//! Storage: what is kept, in `SQLite`.
//!
//! For: every SQL statement of the program, named noun first (`user_create`). May touch: the database file; `config`
//! and `base`. Promises: one connection writes and several read; whatever reads before it writes does both under one
//! `BEGIN IMMEDIATE`, so that processes which share the file cannot interleave; times are whole seconds; a statement
//! waits `database.busy_timeout` at most for another process.
//! Read next: `users.rs`, then `refresh_tokens.rs` for the one delicate transaction.

mod api_keys;
mod audit;
mod error;
mod refresh_tokens;
mod users;

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use crate::base::health::Probe;
use crate::config::Database;

pub use api_keys::{ApiKeyPage, ApiKeyRow, NewApiKey};
pub use audit::{AuditEvent, AuditKind};
pub use error::StorageError;
pub use refresh_tokens::{NewRefreshToken, Rotation};
pub use users::{NewUser, UserRow};

/// How long to wait between attempts to open a file that another process is just setting up.
const OPEN_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Everything that is kept. Cheap to clone: the connections are shared.
#[derive(Clone, Debug)]
pub struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
}

impl Store {
    /// Opens the database, creating the file and its folder, and brings its tables up to date.
    ///
    /// # Errors
    /// When the folder cannot be made, the file not be opened, or a migration fails.
    pub async fn open(settings: &Database) -> Result<Self, StorageError> {
        create_folder(&settings.path)?;
        let options = SqliteConnectOptions::new()
            .filename(&settings.path)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(settings.busy_timeout)
            // With WAL, NORMAL loses at most the last commits of a power cut and never corrupts the file.
            .synchronous(SqliteSynchronous::Normal);
        let writer = open_writer(options.clone().journal_mode(SqliteJournalMode::Wal), settings.busy_timeout).await?;
        // The file is in WAL mode now; a reader never writes, whatever it is asked.
        let readers = pool_options(settings.readers_max, settings.busy_timeout)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(StorageError::Open)?;
        let store = Self { readers, writer };
        store.migrate().await?;
        Ok(store)
    }

    /// Applies the migrations that are missing. Safe when several processes start at once: `SQLite` has no advisory
    /// lock, so the write lock is taken before anybody looks what is missing.
    async fn migrate(&self) -> Result<(), StorageError> {
        let mut migrations: Migrator = sqlx::migrate!("migrations/sqlite");
        // During a rolling update an old process may start after a new one has migrated.
        migrations.set_ignore_missing(true);
        let mut transaction = self.begin("migrate").await?;
        // `Migrator::run` is the same over a trait whose lifetimes keep the future from being sent to another thread.
        migrations.run_direct(None, &mut *transaction, false).await.map_err(StorageError::Migrate)?;
        commit("migrate", transaction).await
    }

    /// A transaction that holds the write lock from its start.
    async fn begin(&self, what: &'static str) -> Result<Transaction<'static, Sqlite>, StorageError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(StorageError::during(what))
    }

    /// Closes all connections after what they are doing.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Probe for Store {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            // A real table, so that a file that was swapped or emptied is noticed.
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1)")
                .fetch_one(&self.readers)
                .await
                .map(|_| ())
                .map_err(|error| error.to_string())
        })
    }
}

async fn commit(what: &'static str, transaction: Transaction<'static, Sqlite>) -> Result<(), StorageError> {
    transaction.commit().await.map_err(StorageError::during(what))
}

fn create_folder(file: &Path) -> Result<(), StorageError> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder)
            .map_err(|source| StorageError::Folder { folder: folder.to_path_buf(), source }),
        _ => Ok(()),
    }
}

/// Opens the one connection that writes. The change to WAL mode needs the file for itself and does not wait for it, so
/// that two processes which start at once collide here: the loser tries again for `patience`.
async fn open_writer(options: SqliteConnectOptions, patience: Duration) -> Result<SqlitePool, StorageError> {
    let give_up = Instant::now() + patience;
    loop {
        match pool_options(1, patience).connect_with(options.clone()).await {
            Ok(pool) => return Ok(pool),
            Err(error) if error::is_busy(&error) && Instant::now() < give_up => {
                tokio::time::sleep(OPEN_RETRY_PAUSE).await;
            }
            Err(error) => return Err(StorageError::Open(error)),
        }
    }
}

/// Connections to a local file neither age nor cost anything while idle.
fn pool_options(connections_max: u32, patience: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .min_connections(1)
        .acquire_timeout(patience)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
}

#[cfg(test)]
mod tests;
