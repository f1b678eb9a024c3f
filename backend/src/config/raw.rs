//! Raw: the file's keys, as the operator writes them.
//!
//! For: the parser, the manual and the schema, from one definition a key. May touch: `values.rs`.
//! Promises: nothing in here leaves `config/`. Read next: `check.rs`, which makes `checked.rs` of it.

use std::path::PathBuf;

use common::secret::SecretRef;
use common::section;
use common::settings::{At, ByteSize, Millis};

use super::checked::Environment;
use super::values::{BindAddress, Network};

mod jobs;
mod metrics;
mod query;
mod redis;

pub(super) use jobs::Jobs;
pub(super) use metrics::Metrics;
pub(super) use query::{Cache, Circuit, Model, Playbooks, Routing, Sandbox, Streams};
pub(super) use redis::Redis;

common::choice! {
    /// How log lines look.
    pub(super) enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// Short text, for a person.
        Text = "text",
    }
}

section! {
    /// The backend: who may use it, how it answers, where it keeps things.
    pub(super) struct File {
        /// The layout's version; 1 is the only one.
        pub(super) version: At<u32> => "write `version: 1`",
        /// `development` may seed `admin` with a known password and sign with a known key, and says so; `production`
        /// refuses to start with either.
        pub(super) environment: At<Environment> = "development",
        /// The program's own log, on standard error.
        pub(super) log: Log = "{}",
        /// Traces, told to a collector by OTLP.
        pub(super) traces: Option<common::traces::Traces> = "null",
        /// Listeners and their bounds.
        pub(super) server: Server = "{}",
        /// Where users, keys and tokens are kept.
        pub(super) database: Database = "{}",
        /// Redis, which processes share: answers that are kept, and the queries of batches as they come.
        pub(super) redis: Redis = "{}",
        /// Tokens, passwords and logins.
        pub(super) auth: Auth = "{}",
        /// The endpoints at which the gateway asks about API keys and about what was withdrawn.
        pub(super) introspection: Introspection = "{}",
        /// The models that answer, over the OpenAI-compatible HTTP API. The first of each size is the default of its
        /// size. None in development means the embedded model `capibara6-dev`; production needs at least one.
        pub(super) models: Vec<Model> = "[]",
        /// Which model answers when the client names none.
        pub(super) routing: Routing = "{}",
        /// Answers that are kept, for the same caller asking the same again.
        pub(super) cache: Cache = "{}",
        /// Answers that are told piece by piece.
        pub(super) streams: Streams = "{}",
        /// Playbooks: texts of the operator's own, one of which is put before a question that it fits.
        pub(super) playbooks: Playbooks = "{}",
        /// A service that runs code of answers, for requests that say so. Absent, none does.
        pub(super) sandbox: Option<Sandbox> = "null",
        /// Batches, and the workers that answer them.
        pub(super) jobs: Jobs = "{}",
        /// The program's own numbers, as `/api/v1/metrics` shows them.
        pub(super) metrics: Metrics = "{}",
        /// GraphQL: its bounds, and what it tells of itself.
        pub(super) graphql: Graphql = "{}",
    }
}

section! {
    /// The program's own log.
    pub(super) struct Log {
        /// What is logged, in the directive syntax of `tracing`, such as `info,sqlx=warn`.
        pub(super) filter: At<String> = "info",
        /// How lines look.
        pub(super) format: LogFormat = "json",
    }
}

section! {
    /// Listeners and their bounds.
    pub(super) struct Server {
        /// Where the API listens.
        pub(super) api: BindAddress = "127.0.0.1:8000",
        /// Where GraphQL listens.
        pub(super) graphql: At<BindAddress> = "127.0.0.1:8001",
        /// Where introspection, metrics and health listen. Keep it off public networks.
        pub(super) internal: At<BindAddress> = "127.0.0.1:8002",
        /// How long requests in flight may take to finish after SIGTERM.
        pub(super) drain: Millis = "10s",
        /// How long a new connection may take to send its first request head.
        pub(super) header_timeout: At<Millis> = "10s",
        /// How long a connection may wait for its next request head. Longer than the gateway keeps idle connections
        /// (60s), so that it never sends into a connection that is just being closed.
        pub(super) keepalive: At<Millis> = "75s",
        /// How long one request may take, body included.
        pub(super) request_timeout: At<Millis> = "120s",
        /// The largest request body.
        pub(super) body_max: At<ByteSize> = "1MiB",
        /// Open connections on each listener; more wait in the system's queue.
        pub(super) max_connections: At<u32> = "4096",
        /// The proxies whose `X-Forwarded-For` and `traceparent` are believed: the gateways.
        pub(super) trusted_proxies: Vec<Network> = "['127.0.0.0/8', '::1/128']",
        /// The names, without ports, that `Host` may have at the API and at GraphQL. Others are answered with 421,
        /// except at `/health`; so the name by which the gateway fetches the key set is to be listed too. None listed means
        /// that every name will do.
        pub(super) trusted_hosts: Vec<At<String>> = "[]",
        /// Pages of other origins that may use the API and GraphQL from a browser.
        pub(super) cors: Cors = "{}",
    }
}

section! {
    /// Pages of other origins that may use the API and GraphQL from a browser.
    pub(super) struct Cors {
        /// Their origins, such as `https://app.example.org`, or `*` alone for every page there is. None listed means
        /// that no page of another origin may.
        pub(super) origins: Vec<At<String>> = "[]",
        /// Whether browsers may send credentials of their own, such as cookies of a proxy before this program. Tokens
        /// and API keys that a page sends itself do not need it.
        pub(super) credentials: At<bool> = "false",
    }
}

section! {
    /// Where users, keys and tokens are kept.
    pub(super) struct Database {
        /// The SQLite file; `.run/capibara6.db` where `url` is not there either. Several processes on one machine may
        /// share it.
        pub(super) path: Option<At<PathBuf>> = "null",
        /// Instead of a file, a Postgres server: where to find its address, `postgres://user:password@host/database`,
        /// with `?sslmode=verify-full` and `sslrootcert=PATH` for TLS that can be relied on.
        pub(super) url: Option<At<SecretRef>> = "null",
        /// SQLite: connections that read; one more writes.
        pub(super) readers_max: At<u32> = "8",
        /// SQLite: how long to wait while another process writes.
        pub(super) busy_timeout: At<Millis> = "5s",
        /// Postgres: connections of one process.
        pub(super) connections_max: At<u32> = "16",
        /// Postgres: how long to wait for a connection, or for a server that is away.
        pub(super) acquire_timeout: At<Millis> = "3s",
        /// Postgres: how long a statement may take, waits for other processes included.
        pub(super) statement_timeout: At<Millis> = "5s",
    }
}

section! {
    /// Tokens, passwords and logins.
    pub(super) struct Auth {
        /// The `iss` claim of access tokens; the gateway trusts exactly this text.
        pub(super) issuer: At<String> = "https://auth.capibara6.local/",
        /// The `aud` claim of access tokens.
        pub(super) audience: At<String> = "capibara6",
        /// How long an access token holds.
        pub(super) access_token_ttl: At<Millis> = "30m",
        /// How long a refresh token holds; each use gives a new one.
        pub(super) refresh_token_ttl: At<Millis> = "7d",
        /// The keys of access tokens: the first signs, all are published, until a key of `backend key rotate` signs.
        /// Empty is allowed only in development.
        pub(super) signing_keys: Vec<SigningKey> = "[]",
        /// Keys that `backend key rotate` makes, and how one follows the other.
        pub(super) rotation: Rotation = "{}",
        /// Bounds on password hashing, which is slow on purpose.
        pub(super) hashing: Hashing = "{}",
        /// Bounds on failed logins.
        pub(super) login: Login = "{}",
    }
}

section! {
    /// One key that signs access tokens.
    pub(super) struct SigningKey {
        /// The `kid` in token headers and in the key set.
        pub(super) id: At<String> => "name the key, such as k1",
        /// The private key, PKCS#8 in PEM, on P-256.
        pub(super) key: At<SecretRef> => "name the place, such as file:/run/secrets/k1.pem",
    }
}

section! {
    /// Keys that `backend key rotate` makes, and how one follows the other.
    pub(super) struct Rotation {
        /// The secret under which private keys lie in the database, at least 32 bytes. Without it none can be made.
        pub(super) secret: Option<At<SecretRef>> = "null",
        /// How long a new key is published before it signs: longer than verifiers keep the key set, which is 5 minutes
        /// by its own word and the gateway's `jwks.refresh`.
        pub(super) publish_before: At<Millis> = "10m",
        /// How much longer than its last token holds a key stays published after the next one signs.
        pub(super) overlap: At<Millis> = "5m",
    }
}

section! {
    /// Bounds on password hashing.
    pub(super) struct Hashing {
        /// Hashes computed at the same time; each takes 19 MiB and a core.
        pub(super) concurrent_max: At<u32> = "2",
        /// Requests that may wait for their turn; more are answered 503.
        pub(super) waiting_max: At<u32> = "64",
    }
}

section! {
    /// Bounds on failed logins, counted in each process.
    pub(super) struct Login {
        /// Failed logins in a window, by account and by client address.
        pub(super) failures_max: At<u32> = "10",
        /// How long failures count.
        pub(super) window: At<Millis> = "15m",
    }
}

section! {
    /// The endpoints at which the gateway asks about API keys and about what was withdrawn.
    pub(super) struct Introspection {
        /// The bearer secret the gateway sends to both. Required in production.
        pub(super) secret: Option<At<SecretRef>> = "null",
    }
}

section! {
    /// GraphQL: its bounds, and what it tells of itself. A document beyond a bound is refused before anything is asked.
    pub(super) struct Graphql {
        /// Whether the schema tells about itself, and GraphiQL is served: in development it does, in production it
        /// does not, unless this says so.
        pub(super) introspection: Option<bool> = "null",
        /// The folder with GraphiQL's files, as `make web` fills it.
        pub(super) ide_path: PathBuf = "backend/web/dist",
        /// The largest document, within `server.body_max`.
        pub(super) document_max: At<ByteSize> = "32KiB",
        /// Fields within fields. GraphiQL's question about the schema needs 15.
        pub(super) depth_max: At<u32> = "15",
        /// What a document may cost: a field costs 1, a list as much as its longest page, a query to a model 100.
        pub(super) complexity_max: At<u32> = "1000",
        /// Aliases, counted where a fragment is used.
        pub(super) aliases_max: At<u32> = "30",
        /// Directives, counted in the same way.
        pub(super) directives_max: At<u32> = "20",
        /// Requests in one body; 1 allows no batches.
        pub(super) batch_max: At<u32> = "10",
        /// Documents that are kept so that clients may send their hash only.
        pub(super) persisted_max: At<u32> = "1000",
        /// Bounds on each WebSocket.
        pub(super) socket: GraphqlSocket = "{}",
    }
}

section! {
    /// Bounds on each WebSocket.
    pub(super) struct GraphqlSocket {
        /// The largest message of a client.
        pub(super) message_max: At<ByteSize> = "64KiB",
        /// Operations that run at the same time on one connection.
        pub(super) operations_max: At<u32> = "10",
        /// How long a client may take to say who it is.
        pub(super) init_timeout: At<Millis> = "10s",
        /// How often a silent client is asked whether it is still there; after two questions in vain it is not.
        pub(super) ping: At<Millis> = "15s",
    }
}
