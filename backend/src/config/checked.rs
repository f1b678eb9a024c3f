//! Checked: the configuration in the types the program works with.
//!
//! For: every room that needs a setting. May touch: nothing.
//! Promises: a `Config` exists only when the whole file was right; bounds are at least one; secrets do not print.
//! Read next: `check.rs` for how it comes about.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use common::choice;
use common::secret::Secret;
use common::telemetry::LogFormat;
use common::traces;
use ipnet::IpNet;

mod jobs;
mod metrics;
mod query;
mod redis;

pub use jobs::Jobs;
pub use metrics::History;
pub use query::{
    Cache, Circuit, Model, ModelSize, Playbooks, Routing, SANDBOX_ID, Sandbox, SandboxProtocol, Streams,
};
pub use redis::{Redis, RedisPlace};

choice! {
    /// Where the program runs.
    pub enum Environment {
        /// On somebody's desk: known passwords and keys are allowed, and announced.
        Development = "development",
        /// For real: they are refused.
        Production = "production",
    }
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the program runs.
    pub environment: Environment,
    /// The program's own log.
    pub log: Log,
    /// Where and of how many requests is told; nothing is, if `None`.
    pub traces: Option<traces::Settings>,
    /// Listeners and their bounds.
    pub server: Server,
    /// Where things are kept.
    pub database: Database,
    /// What processes share; nothing but the database, if `None`.
    pub redis: Option<Redis>,
    /// Tokens, passwords and logins.
    pub auth: Auth,
    /// The endpoint at which the gateway asks about API keys.
    pub introspection: Introspection,
    /// The model servers; empty only in development.
    pub models: Vec<Model>,
    /// Which model answers.
    pub routing: Routing,
    /// Answers that are kept.
    pub cache: Cache,
    /// Answers that are told piece by piece.
    pub streams: Streams,
    /// Texts that are put before questions they fit.
    pub playbooks: Playbooks,
    /// A service that runs code; none does, if `None`.
    pub sandbox: Option<Sandbox>,
    /// Batches, and the workers that answer them.
    pub jobs: Jobs,
    /// What is kept of the program's own numbers.
    pub history: History,
    /// GraphQL.
    pub graphql: Graphql,
}

/// The program's own log.
#[derive(Clone, Debug)]
pub struct Log {
    /// In `tracing`'s directive syntax.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// Listeners and their bounds.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where GraphQL listens.
    pub graphql: SocketAddr,
    /// Where introspection, metrics and health listen.
    pub internal: SocketAddr,
    /// How long requests in flight may take to finish.
    pub drain: Duration,
    /// How long a new connection may take to send its first request head.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request head.
    pub keepalive: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Open connections on each listener.
    pub connections_max: usize,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The names that `Host` may have, in lower case; every name, if there are none.
    pub trusted_hosts: Vec<String>,
    /// Pages of other origins.
    pub cors: Cors,
}

/// Pages of other origins that may use the program from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Their origins, as browsers write them, or `*` alone; no page may, if there are none.
    pub origins: Vec<String>,
    /// Whether browsers may send credentials of their own.
    pub credentials: bool,
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub enum Database {
    /// In a file.
    Sqlite(SqliteDatabase),
    /// On a server.
    Postgres(PostgresDatabase),
}

/// A `SQLite` file.
#[derive(Clone, Debug)]
pub struct SqliteDatabase {
    /// The file.
    pub path: PathBuf,
    /// Connections that read.
    pub readers_max: u32,
    /// How long to wait while another process writes.
    pub busy_timeout: Duration,
}

/// A Postgres server.
#[derive(Clone, Debug)]
pub struct PostgresDatabase {
    /// Its address, password included.
    pub url: Secret,
    /// Connections of this process.
    pub connections_max: u32,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
}

/// Tokens, passwords and logins.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// How long an access token holds.
    pub access_token_ttl: Duration,
    /// How long a refresh token holds.
    pub refresh_token_ttl: Duration,
    /// The signing keys, the first of which signs; empty only in development.
    pub signing_keys: Vec<SigningKeySource>,
    /// Keys that are made while the program runs.
    pub rotation: KeyRotation,
    /// Bounds on password hashing.
    pub hashing: Hashing,
    /// Bounds on failed logins.
    pub login: LoginLimits,
}

/// A key that signs access tokens, still as text: `auth/jwks.rs` reads it.
#[derive(Clone, Debug)]
pub struct SigningKeySource {
    /// The `kid`.
    pub id: String,
    /// PKCS#8 in PEM.
    pub pem: Secret,
}

/// Keys that are made while the program runs.
#[derive(Clone, Debug)]
pub struct KeyRotation {
    /// Under which private keys lie in the database; none can be made without.
    pub secret: Option<Secret>,
    /// How long a new key is published before it signs.
    pub publish_before: Duration,
    /// How long a key stays published after its last token has ended.
    pub overlap: Duration,
}

/// Bounds on password hashing.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    /// Hashes computed at the same time.
    pub concurrent_max: usize,
    /// Requests that may wait for their turn.
    pub waiting_max: usize,
}

/// Bounds on failed logins.
#[derive(Clone, Copy, Debug)]
pub struct LoginLimits {
    /// Failures in a window.
    pub failures_max: u32,
    /// How long failures count.
    pub window: Duration,
}

/// The endpoint at which the gateway asks about API keys.
#[derive(Clone, Debug)]
pub struct Introspection {
    /// The bearer secret the gateway must send; `None` only in development.
    pub secret: Option<Secret>,
}

/// GraphQL: its bounds, and what it tells of itself.
#[derive(Clone, Debug)]
pub struct Graphql {
    /// Whether the schema tells about itself, and `GraphiQL` is served.
    pub introspection: bool,
    /// The folder with `GraphiQL`'s files.
    pub ide_path: PathBuf,
    /// The largest document, in bytes.
    pub document_bytes_max: usize,
    /// Fields within fields.
    pub depth_max: usize,
    /// What a document may cost.
    pub complexity_max: usize,
    /// Aliases in a document.
    pub aliases_max: usize,
    /// Directives in a document.
    pub directives_max: usize,
    /// Requests in one body.
    pub batch_max: usize,
    /// Documents that are kept by their hash.
    pub persisted_max: u64,
    /// Bounds on each WebSocket.
    pub socket: GraphqlSocket,
}

/// Bounds on each WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct GraphqlSocket {
    /// The largest message of a client, in bytes.
    pub message_bytes_max: usize,
    /// Operations at the same time.
    pub operations_max: usize,
    /// How long a client may take to say who it is.
    pub init_timeout: Duration,
    /// How often a silent client is asked whether it is still there.
    pub ping_period: Duration,
}
