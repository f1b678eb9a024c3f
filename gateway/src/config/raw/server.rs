//! Keys of `environment`, `log`, `server`, `admin` and `client_ip`.

use std::path::PathBuf;

use common::settings::{At, ByteSize, Millis};
use common::{choice, section};

use crate::config::values::{Address, Network, Workers};

choice! {
    /// What kind of place this is.
    pub(crate) enum Environment {
        /// A laptop or a test.
        Development = "development",
        /// Everything else.
        Production = "production",
    }
}

choice! {
    /// How log lines look.
    pub(crate) enum LogLines {
        /// One JSON object a line.
        Json = "json",
        /// Short text, for a person.
        Text = "text",
    }
}

choice! {
    /// What becomes of header names with an underscore. Many servers read `_` as `-`, so that such a field could pass for
    /// another one.
    pub(crate) enum Underscores {
        /// Upstreams do not get them.
        Drop = "drop",
        /// The request is answered 400.
        Refuse = "refuse",
        /// Upstreams get them, except those that would be read as a field of the gateway's own.
        Pass = "pass",
    }
}

choice! {
    /// What to do with something that some servers read in another way.
    pub(crate) enum Leniency {
        /// Answer 400.
        Refuse = "refuse",
        /// Pass it on.
        Allow = "allow",
    }
}

choice! {
    /// Fields that tell clients of their limits.
    pub(crate) enum LimitHeader {
        /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
        Standard = "standard",
        /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds) of the limit with the least left.
        Legacy = "legacy",
    }
}

section! {
    /// The gateway's own log, on standard error. The access log is JSON on standard output.
    pub(crate) struct Log {
        /// What is logged, in the directive syntax of `tracing`.
        pub filter: At<String> = "info",
        /// How lines look.
        pub format: LogLines = "json",
    }
}

section! {
    /// Limits and deadlines for all connections.
    pub(crate) struct Server {
        /// Threads that carry traffic.
        pub workers: Workers = "auto",
        /// After SIGTERM, how long requests in flight may take to finish.
        pub drain: Millis = "30s",
        /// How often to look whether this file, or one that it names, has changed, and then reload. Without it, only SIGHUP and
        /// the admin listener do.
        pub watch: Option<Millis> = "null",
        /// A Unix socket by which `gateway run --upgrade` takes over the listening sockets of the running gateway, so that a new
        /// program or configuration comes without a lost connection. Without it, that is not possible.
        pub upgrade_socket: Option<At<PathBuf>> = "null",
        /// Connections open at a time; more are closed at the door.
        pub max_connections: u32 = "20000",
        /// Connections open at a time from one address; more are closed at the door.
        pub max_connections_per_address: u32 = "1000",
        /// How long a TLS handshake may take.
        pub handshake_timeout: Millis = "10s",
        /// How long the head of an HTTP/1.1 request may take from its first byte to its last; then the connection is closed.
        pub header_timeout: Millis = "10s",
        /// How long a connection may stay open between two requests.
        pub keepalive: Millis = "75s",
        /// Requests on one HTTP/1.1 connection before it is closed.
        pub keepalive_requests: u32 = "10000",
        /// How long to wait for the next piece of a request's body.
        pub body_timeout: Millis = "60s",
        /// Bytes a second that a request's body brings at least, on average, once `body_timeout` has passed; 0 for no minimum.
        pub body_rate_min: ByteSize = "64",
        /// How long to wait for a client to take a piece of the answer.
        pub write_timeout: Millis = "60s",
        /// Size of a request's header section; larger ones are answered 431.
        pub headers_max: ByteSize = "32KiB",
        /// Number of a request's header fields; more are answered 431.
        pub header_count_max: u32 = "100",
        /// Length of a request's target, query included; longer ones are answered 414.
        pub target_max: ByteSize = "8KiB",
        /// Requests at a time on one HTTP/2 connection.
        pub http2_streams: u32 = "100",
        /// Fields that tell clients of their limits.
        pub limit_headers: Vec<LimitHeader> = "[standard]",
        /// How many connections and requests a second one address may bring before anything is looked up for them. A coarse
        /// guard, far above any limit.
        pub flood_guard: FloodGuard = "{}",
        /// `;` in a path: servers that cut parameters off would see another path than the one that was authorised.
        pub path_parameters: Leniency = "refuse",
        /// Header names with an underscore, which many servers read as `-`: `drop` keeps them from upstreams, `refuse` answers 400,
        /// `pass` lets those through that no server can take for a field of the gateway's own.
        pub underscore_headers: Underscores = "drop",
    }
}

section! {
    /// The coarse guard against floods from one address. Addresses of trusted proxies are not counted.
    pub(crate) struct FloodGuard {
        /// Connections a second; more are closed before the handshake. 0 for no guard.
        pub connections_per_second: u32 = "5000",
        /// Requests a second; more are answered 429, and their connection is closed. 0 for no guard.
        pub requests_per_second: u32 = "50000",
    }
}

section! {
    /// The operators' side door. Never put it on a public address: it asks for no credential.
    pub(crate) struct Admin {
        /// Where it listens.
        pub bind: Address = "127.0.0.1:9901",
    }
}

section! {
    /// How the client's address is found: from `X-Forwarded-For` when the connection comes from a trusted proxy (the
    /// right-most address that is not trusted counts), from the connection otherwise.
    pub(crate) struct ClientIp {
        /// Networks of proxies whose forwarding headers are believed.
        pub trusted_proxies: Vec<Network> = "[]",
        /// Addresses of one IPv6 network of this prefix length count as one client.
        pub ipv6_prefix: u8 = "64",
        /// Networks of clients that are answered 403 on every route.
        pub deny: Vec<Network> = "[]",
    }
}
