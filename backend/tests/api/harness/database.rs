//! Database: where a backend keeps things, and what is kept, looked at from outside.
//!
//! For: the same tests in files and on servers, the audit log, which no URL shows, the promise that no secret is kept in
//! the open, and faults. May touch: the database of a test. Read next: `servers.rs`.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::servers::{self, Own};
use super::settings::{database_file, secret_file};

/// Every security event, in the order in which they happened.
const EVENTS: &str = "SELECT kind, subject, client, detail FROM audit_events ORDER BY id";

/// Every table of ours on a server.
const TABLES: &str = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'";

/// Where a backend keeps things.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Where this run of the tests keeps them: in a file in its own folder, or on the servers that the run has.
    OfTheRun,
    /// In a file in its own folder, whatever the run has.
    Sqlite,
    /// On a server, at this address.
    Postgres(String),
    /// On a server, at this address; and what processes share beside it on Redis, at that address.
    PostgresAndRedis {
        /// The server's.
        url: String,
        /// That of Redis.
        redis: String,
    },
}

impl Engine {
    /// What `database:` and `redis:` say of it; nothing, where there is no Redis.
    pub fn written(&self, folder: &Path) -> (String, String) {
        let on = |url: &str| format!("url: {}", secret_file(folder, "database", url));
        let with = |redis: &str| format!("url: \"{redis}\", timeout: 2s");
        match self {
            Self::OfTheRun => match servers::own(folder) {
                Some(Own { url, redis, name }) => (on(&url), format!("{}, prefix: {name}", with(&redis))),
                None => Self::Sqlite.written(folder),
            },
            Self::Sqlite => (format!("path: \"{}\"", database_file(folder).display()), String::new()),
            Self::Postgres(url) => (on(url), String::new()),
            Self::PostgresAndRedis { url, redis } => (on(url), with(redis)),
        }
    }

    /// A connection to what a backend in this folder keeps there.
    pub async fn open(&self, folder: &Path) -> Database {
        let own = match self {
            Self::OfTheRun => servers::own(folder),
            Self::Sqlite | Self::Postgres(_) | Self::PostgresAndRedis { .. } => None,
        };
        match (self, own) {
            (_, Some(Own { url, .. })) => Database::on(&url).await,
            (Self::Postgres(url) | Self::PostgresAndRedis { url, .. }, None) => Database::on(url).await,
            (Self::OfTheRun | Self::Sqlite, None) => {
                let options = SqliteConnectOptions::new().filename(database_file(folder));
                let opened = SqliteConnection::connect_with(&options).await;
                Database::Sqlite(opened.expect("the backend has made its database"))
            }
        }
    }
}

/// A connection of the test's own, which may do what a careless operator does.
pub enum Database {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    Postgres(PgConnection),
}

/// One security event.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Event {
    /// What happened.
    pub kind: String,
    /// A user's id, or the name that was tried.
    pub subject: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    /// What it was about.
    pub detail: Option<String>,
}

/// Writes a statement out for both drivers, and fails with what the database says.
macro_rules! on {
    ($database:expr, |$connection:ident| $statement:expr) => {{
        let outcome = match $database {
            Database::Sqlite($connection) => $statement.await,
            Database::Postgres($connection) => $statement.await,
        };
        outcome.unwrap_or_else(|error| panic!("the database refuses: {error}"))
    }};
}

impl Database {
    async fn on(url: &str) -> Self {
        Self::Postgres(PgConnection::connect(url).await.expect("the server takes connections"))
    }

    /// Executes a statement that both engines know.
    pub async fn execute(&mut self, statement: &'static str) {
        match self {
            Self::Sqlite(connection) => sqlx::query(statement).execute(connection).await.map(|_| ()),
            Self::Postgres(connection) => sqlx::query(statement).execute(connection).await.map(|_| ()),
        }
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Executes one with these bytes for `$1`.
    pub async fn execute_with(&mut self, statement: &'static str, bytes: &[u8]) {
        match self {
            Self::Sqlite(connection) => sqlx::query(statement).bind(bytes).execute(connection).await.map(|_| ()),
            Self::Postgres(connection) => sqlx::query(statement).bind(bytes).execute(connection).await.map(|_| ()),
        }
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Keeps everybody else from writing what a refresh writes, until `let_write`. Who only reads is not held up.
    pub async fn keep_from_writing(&mut self) {
        match self {
            Self::Sqlite(_) => self.execute("BEGIN IMMEDIATE").await,
            Self::Postgres(_) => {
                self.execute("BEGIN").await;
                self.execute("LOCK TABLE refresh_tokens IN SHARE MODE").await;
            }
        }
    }

    /// Ends that.
    pub async fn let_write(&mut self) {
        self.execute("ROLLBACK").await;
    }

    /// The one number that a question has for an answer.
    pub async fn number(&mut self, question: &'static str) -> i64 {
        on!(self, |connection| sqlx::query_scalar(question).fetch_one(connection))
    }

    /// The one value in bytes that a question has for an answer.
    pub async fn bytes(&mut self, question: &'static str) -> Vec<u8> {
        on!(self, |connection| sqlx::query_scalar(question).fetch_one(connection))
    }

    /// Every security event so far.
    pub async fn events(&mut self) -> Vec<Event> {
        on!(self, |connection| sqlx::query_as(EVENTS).fetch_all(connection))
    }

    /// What it says of a table that is not there.
    pub fn no_such_table(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "no such table",
            Self::Postgres(_) => "does not exist",
        }
    }
}

/// A connection to the database of the backends in this folder.
pub async fn open(folder: &Path) -> Database {
    Engine::OfTheRun.open(folder).await
}

/// Every security event so far of the backends in this folder.
pub async fn events(folder: &Path) -> Vec<Event> {
    open(folder).await.events().await
}

/// Every security event so far of a backend that keeps things there.
pub async fn events_on(engine: &Engine, folder: &Path) -> Vec<Event> {
    engine.open(folder).await.events().await
}

/// Whether a text stands anywhere in the database of the backends in this folder: in a file, its write-ahead log included,
/// or in a column of a server's table, as text or as bytes.
pub async fn holds(folder: &Path, text: &str) -> bool {
    match servers::own(folder) {
        None => file_holds(folder, text),
        Some(Own { url, .. }) => server_holds(&url, text).await,
    }
}

fn file_holds(folder: &Path, text: &str) -> bool {
    let file = database_file(folder);
    let beside = file.parent().expect("the database lies in a folder");
    let files = std::fs::read_dir(beside).expect("the backend has made the folder");
    let mut files = files.map(|entry| entry.expect("the folder can be read").path());
    files.any(|file| {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

async fn server_holds(url: &str, text: &str) -> bool {
    let mut server = PgConnection::connect(url).await.expect("the server takes connections");
    let tables: Vec<String> =
        sqlx::query_scalar(TABLES).fetch_all(&mut server).await.expect("a server knows its tables");
    assert!(!tables.is_empty(), "the backend has made its tables");
    for table in tables {
        // A row's text has bytes in hexadecimal.
        let ask = format!(
            "SELECT EXISTS (SELECT 1 FROM {table} AS kept WHERE strpos(kept::text, $1) > 0 \
             OR strpos(kept::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0)"
        );
        let asked = sqlx::query_scalar(AssertSqlSafe(ask)).bind(text).fetch_one(&mut server).await;
        if asked.unwrap_or_else(|error| panic!("{table}: {error}")) {
            return true;
        }
    }
    false
}
