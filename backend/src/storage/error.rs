//! Storage errors: which statement failed, and whether trying later may help.
//!
//! For: the rooms above, which answer 503 for what passes and 500 for what does not. May touch: sqlx's errors.
//! Promises: the database's text stays in the cause, for the log. Read next: `api/error.rs`.

use std::path::PathBuf;

/// `SQLite`'s primary result codes (its documentation, "Result and Error Codes") that say: not now.
/// BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN, NOTADB.
const PASSING_CODES: [i32; 7] = [5, 6, 8, 10, 13, 14, 26];
/// BUSY and LOCKED: somebody else is at it.
const BUSY_CODES: [i32; 2] = [5, 6];

/// What went wrong with what is kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The folder of the database file cannot be made.
    #[error("cannot create the folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the database")]
    Open(#[source] sqlx::Error),
    /// A migration failed, or the database was migrated by a different program.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{what} failed")]
    Statement {
        /// The statement's name.
        what: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The value is taken.
    #[error("{what}: taken")]
    Taken {
        /// The statement's name.
        what: &'static str,
    },
}

impl StorageError {
    /// For `map_err`: names the statement; a broken unique rule becomes `Taken`.
    pub(super) fn during(what: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| match &source {
            sqlx::Error::Database(error) if error.is_unique_violation() => Self::Taken { what },
            _ => Self::Statement { what, source },
        }
    }

    /// Whether trying later may help: the database is away, busy or full.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Open(source) | Self::Statement { source, .. } => is_passing(source),
            Self::Folder { .. } | Self::Migrate(_) | Self::Taken { .. } => false,
        }
    }
}

/// Whether somebody else holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error).is_some_and(|code| BUSY_CODES.contains(&code))
}

fn is_passing(error: &sqlx::Error) -> bool {
    let away = matches!(
        error,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Io(_)
    );
    away || primary_code(error).is_some_and(|code| PASSING_CODES.contains(&code))
}

/// The low byte of `SQLite`'s extended code.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    match error {
        sqlx::Error::Database(error) => error.code()?.parse::<i32>().ok().map(|code| code & 0xff),
        _ => None,
    }
}
