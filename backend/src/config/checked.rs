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
use ipnet::IpNet;
use url::Url;

choice! {
    /// Where the program runs.
    pub enum Environment {
        /// On somebody's desk: known passwords and keys are allowed, and announced.
        Development = "development",
        /// For real: they are refused.
        Production = "production",
    }
}

choice! {
    /// What a model is meant for.
    pub enum ModelSize {
        /// Simple queries.
        Small = "small",
        /// Hard queries.
        Large = "large",
    }
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the program runs.
    pub environment: Environment,
    /// The program's own log.
    pub log: Log,
    /// Listeners and their bounds.
    pub server: Server,
    /// Where things are kept.
    pub database: Database,
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
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct Database {
    /// The `SQLite` file.
    pub path: PathBuf,
    /// Connections that read.
    pub readers_max: u32,
    /// How long to wait while another process writes.
    pub busy_timeout: Duration,
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

/// A model server.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name clients use and see.
    pub id: String,
    /// What it is meant for.
    pub size: ModelSize,
    /// Where `chat/completions` is.
    pub completions_url: Url,
    /// The bearer key the server asks for.
    pub key: Option<Secret>,
    /// The name sent to the server.
    pub upstream_name: String,
    /// How long the whole answer may take.
    pub timeout: Duration,
    /// How long the connection may take.
    pub connect_timeout: Duration,
    /// The largest answer, in bytes.
    pub answer_bytes_max: usize,
    /// The most tokens a client may ask for.
    pub tokens_max: u32,
}

/// Which model answers.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// The complexity, from 0 to 100, from which on the large model answers.
    pub large_from: u8,
}

/// Answers that are kept.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// The most answers.
    pub answers_max: u32,
    /// The most bytes of all of them.
    pub bytes_max: u64,
    /// How long.
    pub ttl: Duration,
}
