//! Database: what is kept, looked at from outside.
//!
//! For: where a backend keeps things, the audit log, which no URL shows, the promise that no secret is kept in the open,
//! and faults. May touch: the database of a test. Read next: `sessions.rs` in the folder above.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, PgConnection};

use super::settings::database_file;

/// Every security event, in the order in which they happened.
const EVENTS: &str = "SELECT kind, subject, client, detail FROM audit_events ORDER BY id";

/// Where a backend keeps things.
#[derive(Clone, Debug)]
pub enum Engine {
    /// In a file in its own folder.
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

/// A connection of the test's own, which may do what a careless operator does.
pub async fn open(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database_file(folder));
    SqliteConnection::connect_with(&options).await.expect("the backend has made its database")
}

/// Every security event so far of the backend in this folder.
pub async fn events(folder: &Path) -> Vec<Event> {
    events_on(&Engine::Sqlite, folder).await
}

/// Every security event so far of a backend that keeps things there.
pub async fn events_on(engine: &Engine, folder: &Path) -> Vec<Event> {
    let events = match engine {
        Engine::Sqlite => {
            let options = SqliteConnectOptions::new().filename(database_file(folder)).read_only(true);
            let mut database =
                SqliteConnection::connect_with(&options).await.expect("the backend has made its database");
            sqlx::query_as(EVENTS).fetch_all(&mut database).await
        }
        Engine::Postgres(url) | Engine::PostgresAndRedis { url, .. } => {
            let mut database = PgConnection::connect(url).await.expect("the server takes connections");
            sqlx::query_as(EVENTS).fetch_all(&mut database).await
        }
    };
    events.expect("the database has its audit log")
}

/// Whether a text stands anywhere in the database, its write-ahead log included.
pub fn holds(folder: &Path, text: &str) -> bool {
    let file = database_file(folder);
    let beside = file.parent().expect("the database lies in a folder");
    let files = std::fs::read_dir(beside).expect("the backend has made the folder");
    let mut files = files.map(|entry| entry.expect("the folder can be read").path());
    files.any(|file| {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
