//! Raw: the file's keys, as the operator writes them.
//!
//! For: the parser, the manual and the schema, from one definition a key. May touch: `values.rs`.
//! Promises: nothing in here leaves `config/`. Read next: `check.rs`, which makes `checked.rs` of it.

use common::secret::SecretRef;
use common::section;
use common::settings::{At, ByteSize, Millis};

use super::checked::{Environment, ModelSize};
use super::values::{BindAddress, Network, WebAddress};

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
        /// Listeners and their bounds.
        pub(super) server: Server = "{}",
        /// Where users, keys and tokens are kept.
        pub(super) database: Database = "{}",
        /// Tokens, passwords and logins.
        pub(super) auth: Auth = "{}",
        /// The endpoint at which the gateway asks about API keys.
        pub(super) introspection: Introspection = "{}",
        /// The models that answer, over the OpenAI-compatible HTTP API. The first of each size is the default of its
        /// size. None in development means the embedded model `capibara6-dev`; production needs at least one.
        pub(super) models: Vec<Model> = "[]",
        /// Which model answers when the client names none.
        pub(super) routing: Routing = "{}",
        /// Answers that are kept, for the same caller asking the same again.
        pub(super) cache: Cache = "{}",
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
        /// The proxies whose `X-Forwarded-For` is believed.
        pub(super) trusted_proxies: Vec<Network> = "['127.0.0.0/8', '::1/128']",
    }
}

section! {
    /// Where users, keys and tokens are kept.
    pub(super) struct Database {
        /// The SQLite file, as `sqlite:PATH`. Several processes on one machine may share it.
        pub(super) url: At<String> = "sqlite:.run/capibara6.db",
        /// Connections that read; one more writes.
        pub(super) readers_max: At<u32> = "8",
        /// How long to wait while another process writes.
        pub(super) busy_timeout: At<Millis> = "5s",
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
        /// The keys of access tokens: the first signs, all are published. Empty is allowed only in development.
        pub(super) signing_keys: Vec<SigningKey> = "[]",
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
    /// The endpoint at which the gateway asks about API keys.
    pub(super) struct Introspection {
        /// The bearer secret the gateway sends. Required in production.
        pub(super) secret: Option<At<SecretRef>> = "null",
    }
}

section! {
    /// A model server that speaks the OpenAI-compatible HTTP API.
    pub(super) struct Model {
        /// The name clients use and see.
        pub(super) id: At<String> => "name the model, such as capibara6-20b",
        /// Whether it is meant for simple or for hard queries.
        pub(super) size: ModelSize => "write small or large",
        /// The server's base address; `/chat/completions` is appended.
        pub(super) url: WebAddress => "write the base address, such as http://127.0.0.1:9000/v1",
        /// The bearer key the server asks for.
        pub(super) key: Option<At<SecretRef>> = "null",
        /// The name sent to the server, where it differs from `id`.
        pub(super) model: Option<String> = "null",
        /// How long the whole answer may take.
        pub(super) timeout: At<Millis> = "60s",
        /// How long the connection may take.
        pub(super) connect_timeout: At<Millis> = "2s",
        /// The largest answer of the server.
        pub(super) answer_max: At<ByteSize> = "1MiB",
        /// The most tokens a client may ask for, and the number sent when it names none.
        pub(super) tokens_max: At<u32> = "4096",
    }
}

section! {
    /// Which model answers when the client names none.
    pub(super) struct Routing {
        /// Queries whose complexity, from 0 to 100, is at least this go to the large model.
        pub(super) large_from: At<u8> = "50",
    }
}

section! {
    /// Answers that are kept.
    pub(super) struct Cache {
        /// The most answers.
        pub(super) answers_max: At<u32> = "10000",
        /// The most bytes of all answers together.
        pub(super) bytes_max: At<ByteSize> = "64MiB",
        /// How long an answer is kept.
        pub(super) ttl: At<Millis> = "10m",
    }
}
