//! `SQLite`: how the file is opened and brought up to date.
//!
//! For: `Store::open`. May touch: the database file and its folder.
//! Promises: one connection writes and several read, which cannot write; the file is in WAL mode, so that who reads
//! waits for nobody; another process is waited for as long as `database.busy_timeout`, and no longer.
//! Read next: `engine.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::StorageError;
use super::engine::BEGIN_SQLITE;
use super::error::is_busy;
use crate::config::SqliteDatabase;

/// How long to wait between attempts to open a file that another process is just setting up.
const OPEN_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The connections to one file.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    /// Cannot write.
    pub(super) readers: SqlitePool,
    /// One.
    pub(super) writer: SqlitePool,
}

/// Opens the file, creating it and its folder, and brings its tables up to date.
pub(super) async fn open(settings: &SqliteDatabase) -> Result<Pools, StorageError> {
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
    migrate(&writer).await?;
    Ok(Pools { readers, writer })
}

/// Applies the migrations that are missing. Safe when several processes start at once: `SQLite` has no advisory lock,
/// so the write lock is taken before anybody looks what is missing.
async fn migrate(writer: &SqlitePool) -> Result<(), StorageError> {
    const WHAT: &str = "migrate";
    let mut migrations: Migrator = sqlx::migrate!("migrations/sqlite");
    // During a rolling update an old process may start after a new one has migrated.
    migrations.set_ignore_missing(true);
    let mut transaction = writer.begin_with(BEGIN_SQLITE).await.map_err(StorageError::during(WHAT))?;
    // `Migrator::run` is the same over a trait whose lifetimes keep the future from being sent to another thread.
    migrations.run_direct(None, &mut *transaction, false).await.map_err(StorageError::Migrate)?;
    transaction.commit().await.map_err(StorageError::during(WHAT))
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
            Err(error) if is_busy(&error) && Instant::now() < give_up => {
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
