//! Engine: `SQLite` or Postgres, so that each statement stands once.
//!
//! For: `on!`, which writes a statement out for both engines, `rows!`, which reads a row of either, and transactions.
//! May touch: sqlx. Promises: a transaction of `SQLite` holds the one write lock from its start; one of Postgres locks
//! what it is told to, and no more; on Postgres nothing is waited for longer than `Timed::limit`, even when the server
//! stops in the middle of an answer.
//! Read next: `sqlite.rs` and `postgres.rs` for how each is opened, then `users.rs`.

use std::io;
use std::time::Duration;

use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection};

use super::StorageError;

/// Begins a transaction of `SQLite` that holds the write lock at once. One that begins by reading could find, when it
/// comes to write, that somebody else has written meanwhile.
pub(super) const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";

/// Begins a transaction of Postgres in which each statement sees what was committed before that statement: who has
/// waited for a lock sees what its last holder did. The server's default may be another, so it is said.
const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The first half of the numbers of our advisory locks ("cap6"). The migrator's locks have a whole number, which
/// Postgres counts apart.
const TURNS: i32 = 0x6361_7036;

/// One of the two engines.
#[derive(Clone, Copy, Debug)]
pub(super) enum Engine<S, P> {
    /// A file.
    Sqlite(S),
    /// A server.
    Postgres(P),
}

/// Something to ask Postgres through, and how long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed<T> {
    /// What is asked.
    pub(super) on: T,
    /// How long one answer may take, the wait for a connection included.
    pub(super) limit: Duration,
}

/// A transaction of either engine. Dropped before its commit, it is rolled back.
pub(super) struct Transaction(Begun);

type Begun = Engine<sqlx::Transaction<'static, Sqlite>, Timed<sqlx::Transaction<'static, Postgres>>>;

/// What one process does at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    /// Making a user because there is none.
    FirstUser = 1,
    /// Deleting what has expired.
    Cleaning = 2,
    /// Withdrawing something before its end.
    Withdrawing = 3,
    /// Making a key that signs.
    RotatingKeys = 4,
}

/// Writes a statement out for both engines. `|name|` is what it is executed on: a pool, or a transaction's connection.
macro_rules! on {
    ($place:expr, |$db:ident| $statement:expr) => {
        match $place {
            $crate::storage::engine::Engine::Sqlite($db) => {
                $crate::base::database_metrics::measured(async { $statement }).await
            }
            $crate::storage::engine::Engine::Postgres($crate::storage::engine::Timed { on: $db, limit }) => {
                let statement = $crate::storage::engine::within(limit, async { $statement });
                $crate::base::database_metrics::measured(statement).await
            }
        }
    };
}

/// Says how a type is read from a row of either engine.
macro_rules! rows {
    ($what:ty, |$row:ident| $read:expr) => {
        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $what {
            fn from_row($row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
                $read
            }
        }

        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $what {
            fn from_row($row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
                $read
            }
        }
    };
}

pub(super) use {on, rows};

/// Waits for an answer of Postgres, but not for ever. The server's own `statement_timeout` ends what is slow; this ends
/// the wait for a server that has gone without a word.
pub(super) async fn within<T>(
    limit: Duration,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, statement).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
    }
}

impl Transaction {
    /// Begins one on the connections that write.
    pub(super) async fn begin(
        pools: Engine<&sqlx::SqlitePool, Timed<&sqlx::PgPool>>,
        what: &'static str,
    ) -> Result<Self, StorageError> {
        let begun: Result<Begun, sqlx::Error> = match pools {
            Engine::Sqlite(pool) => pool.begin_with(BEGIN_SQLITE).await.map(Engine::Sqlite),
            Engine::Postgres(Timed { on: pool, limit }) => {
                // Boxed, because opening a connection is a large future that every caller would carry along.
                let begin = Box::pin(pool.begin_with(BEGIN_POSTGRES));
                within(limit, begin).await.map(|on| Engine::Postgres(Timed { on, limit }))
            }
        };
        begun.map(Self).map_err(StorageError::during(what))
    }

    /// What its statements are executed on.
    pub(super) fn on(&mut self) -> Engine<&mut SqliteConnection, Timed<&mut PgConnection>> {
        match &mut self.0 {
            Engine::Sqlite(transaction) => Engine::Sqlite(&mut **transaction),
            Engine::Postgres(Timed { on, limit }) => Engine::Postgres(Timed { on: &mut **on, limit: *limit }),
        }
    }

    /// Waits until no other process has this turn, and keeps it until the transaction ends. On `SQLite` the write lock
    /// is every turn at once.
    pub(super) async fn take_turn(&mut self, turn: Turn) -> Result<(), sqlx::Error> {
        if let Engine::Postgres(Timed { on, limit }) = self.on() {
            let wait = sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(TURNS).bind(turn as i32).execute(on);
            within(limit, wait).await?;
        }
        Ok(())
    }

    /// Takes this turn unless another process has it; says whether it did.
    pub(super) async fn try_turn(&mut self, turn: Turn) -> Result<bool, sqlx::Error> {
        match self.on() {
            Engine::Sqlite(_) => Ok(true),
            Engine::Postgres(Timed { on, limit }) => {
                let attempt = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1, $2)");
                within(limit, attempt.bind(TURNS).bind(turn as i32).fetch_one(on)).await
            }
        }
    }

    /// Waits until no other process has locked this user's row, and keeps it until the transaction ends. It may still
    /// be read and referred to. On `SQLite` the write lock is on everything.
    pub(super) async fn lock_user(&mut self, id: &str) -> Result<(), sqlx::Error> {
        if let Engine::Postgres(Timed { on, limit }) = self.on() {
            let wait = sqlx::query("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE").bind(id).execute(on);
            within(limit, wait).await?;
        }
        Ok(())
    }

    /// Makes what was done in it last.
    pub(super) async fn commit(self, what: &'static str) -> Result<(), StorageError> {
        let done = match self.0 {
            Engine::Sqlite(transaction) => transaction.commit().await,
            Engine::Postgres(Timed { on, limit }) => within(limit, on.commit()).await,
        };
        done.map_err(StorageError::during(what))
    }
}
