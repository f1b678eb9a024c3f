//! Storage errors: which statement failed, and whether trying later may help.
//!
//! For: the rooms above, which answer 503 for what passes and 500 for what does not. May touch: sqlx's errors.
//! Promises: the database's text stays in the cause, for the log. Read next: `api/error.rs`.

use std::path::PathBuf;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// `SQLite`'s primary result codes (its documentation, "Result and Error Codes") that say: not now.
/// BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN, NOTADB.
const SQLITE_PASSING_CODES: [i32; 7] = [5, 6, 8, 10, 13, 14, 26];
/// BUSY and LOCKED: somebody else is at it.
const SQLITE_BUSY_CODES: [i32; 2] = [5, 6];

/// Classes of Postgres' codes (its documentation, appendix A) that say: not now. Connection exceptions, and resources
/// that have run out: disk, memory, connections.
const POSTGRES_PASSING_CLASSES: [&str; 2] = ["08", "53"];
/// Codes of Postgres that say so: `idle_in_transaction_session_timeout`, `read_only_sql_transaction` (it is a replica by
/// now), `serialization_failure`, `deadlock_detected`, `lock_not_available`, `query_canceled` (by `statement_timeout`),
/// `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`, `idle_session_timeout`, `io_error`.
const POSTGRES_PASSING_CODES: [&str; 11] =
    ["25P03", "25006", "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030"];

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
    /// The address of a database server cannot be read. It is not told, because a password is part of it.
    #[error("database.url holds an address that cannot be read")]
    Address,
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
            Self::Folder { .. } | Self::Address | Self::Migrate(_) | Self::Taken { .. } => false,
        }
    }
}

/// Whether somebody else holds `SQLite`'s lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => sqlite_code(&**error).is_some_and(|code| SQLITE_BUSY_CODES.contains(&code)),
        _ => false,
    }
}

fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => is_passing_on_postgres(error.code()),
            None => sqlite_code(&**error).is_some_and(|code| SQLITE_PASSING_CODES.contains(&code)),
        },
        _ => false,
    }
}

/// The low byte of `SQLite`'s extended code. Postgres' codes may look like numbers as well, and mean something else.
fn sqlite_code(error: &(dyn DatabaseError + 'static)) -> Option<i32> {
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        return None;
    }
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}

fn is_passing_on_postgres(code: &str) -> bool {
    POSTGRES_PASSING_CODES.contains(&code) || POSTGRES_PASSING_CLASSES.iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_on_postgres_is_told_from_what_stays() {
        for code in ["08006", "53100", "53300", "57P01", "57P03", "57014", "40001", "40P01", "25006"] {
            assert!(is_passing_on_postgres(code), "{code}");
        }
        // A syntax error, no such table, a broken unique rule, a password that is not right.
        for code in ["42601", "42P01", "23505", "28P01", "57000", ""] {
            assert!(!is_passing_on_postgres(code), "{code}");
        }
    }

    #[test]
    fn who_does_not_answer_may_do_so_later() {
        let away = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(StorageError::during("x")(away).is_passing());
        assert!(StorageError::Open(sqlx::Error::PoolTimedOut).is_passing());
        assert!(!StorageError::during("x")(sqlx::Error::RowNotFound).is_passing());
        assert!(!StorageError::Address.is_passing());
    }
}
