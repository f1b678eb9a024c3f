//! Keys of `upstreams`: who answers, and how long to wait for them.

use std::path::PathBuf;

use common::settings::{At, Millis, Percent};
use common::{choice, section};

use crate::config::values::Address;

choice! {
    /// Whose turn it is.
    pub(crate) enum Balance {
        /// One after the other.
        RoundRobin = "round_robin",
        /// The one with the fewest requests in flight.
        LeastRequests = "least_requests",
    }
}

choice! {
    /// What is spoken to the servers.
    pub(crate) enum Protocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2: by ALPN over TLS, from the first byte without. What gRPC needs.
        Http2 = "http2",
    }
}

section! {
    /// A set of servers that give the same answers.
    pub(crate) struct Upstream {
        /// Addresses of the servers.
        pub targets: Vec<At<Address>> => "list at least one IP:port",
        /// What is spoken to the servers.
        pub protocol: Protocol = "http1",
        /// Speak TLS to the servers. Without it, plain HTTP.
        pub tls: Option<UpstreamTls> = "null",
        /// How the next one is chosen.
        pub balance: Balance = "round_robin",
        /// How it is found out who is fit. Without it every target counts as fit.
        pub health: Option<Health> = "null",
        /// How long to wait for a server.
        pub timeouts: Timeouts = "{}",
        /// When to ask another server instead.
        pub retry: Retry = "{}",
    }
}

section! {
    /// TLS to the servers. Their certificates are always verified.
    pub(crate) struct UpstreamTls {
        /// Name that a server's certificate must be for; also sent as SNI.
        pub name: At<String> => "name whose certificate is expected, such as name: api.internal",
        /// PEM file with the authorities that are trusted; without it, those of the system.
        pub ca: Option<At<PathBuf>> = "null",
    }
}

section! {
    /// Active checks: a GET at an interval, any 2xx answer counts as success.
    pub(crate) struct Health {
        /// Path to ask for.
        pub http: At<String> => "name the path to ask for, such as http: /health",
        /// Time between two checks of a server.
        pub every: Millis = "5s",
        /// How long a check may take.
        pub timeout: Millis = "2s",
        /// Successes in a row after which a server gets requests again.
        pub up_after: u8 = "2",
        /// Failures in a row (checks, and connections refused to requests) after which it gets none.
        pub down_after: u8 = "3",
    }
}

section! {
    /// How long to wait for a server.
    pub(crate) struct Timeouts {
        /// For the connection.
        pub connect: Millis = "2s",
        /// For the first byte of the answer, and between two pieces of it.
        pub first_byte: Millis = "30s",
        /// A pooled connection is closed after this time without a request. Keep it below the server's own.
        pub idle: Millis = "60s",
    }
}

section! {
    /// When to ask another server. Always when no connection came about; else only for methods that may be repeated
    /// (RFC 9110 §9.2.2), and only before any part of the answer went out.
    pub(crate) struct Retry {
        /// Attempts in all, the first included.
        pub attempts: u8 = "2",
        /// Retries as a share of requests, over a small reserve, so that an outage is not multiplied.
        pub budget: Percent = "20%",
    }
}
