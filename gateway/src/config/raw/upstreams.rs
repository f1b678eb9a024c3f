//! Keys of `upstreams`: who answers, and how long to wait for them.

use std::path::PathBuf;

use common::secret::SecretRef;
use common::settings::{At, Millis, Percent};
use common::{choice, section};

use crate::config::targets::{DnsName, EndpointPort, HashBy, Target};
use crate::config::values::{Address, HttpUrl};

choice! {
    /// Whose turn it is. Weights and slow start count in all of them but `hash`, which takes weights alone.
    pub(crate) enum Balance {
        /// One after the other, smoothly by weight.
        RoundRobin = "round_robin",
        /// Of two at random, the one with fewer requests in flight for its weight.
        LeastRequests = "least_requests",
        /// Of two at random, the one that is likely to answer first: by how long its answers took lately, slow ones at once and
        /// fast ones only slowly, and by what it has in flight.
        PeakEwma = "peak_ewma",
        /// The same server for the same key (rendezvous hashing), and the next one when it has more than its share.
        Hash = "hash",
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
        /// Addresses of the servers: `IP:port`, `unix:/path`, or `{ at: IP:port, weight: 3 }`.
        pub targets: Vec<At<Target>> = "[]",
        /// Where to learn their addresses instead.
        pub discovery: Option<Discovery> = "null",
        /// What is spoken to the servers.
        pub protocol: Protocol = "http1",
        /// Speak TLS to the servers. Without it, plain HTTP.
        pub tls: Option<UpstreamTls> = "null",
        /// How the next one is chosen.
        pub balance: Balance = "round_robin",
        /// What `hash` goes by: `client.ip`, `identity.subject`, `header.NAME` or `cookie.NAME`.
        pub hash_by: Option<At<HashBy>> = "null",
        /// A cookie by which a client comes back to the server that it had, as long as that is fit.
        pub sticky: Option<Sticky> = "null",
        /// How it is found out who is fit. Without it every target counts as fit.
        pub health: Option<Health> = "null",
        /// Share of the servers below which everybody counts as fit: too many at once are rather a fault of the checks.
        pub panic_below: Percent = "0%",
        /// Servers that fail requests are left out for a while. Without it, only `health` says who is fit.
        pub eject: Option<Eject> = "null",
        /// How long a server that is new, or back, takes until it gets its full share. Not at the gateway's own start.
        pub slow_start: Option<Millis> = "null",
        /// Requests under way, over all servers, and those that may wait for a place.
        pub breaker: Breaker = "{}",
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
        /// The certificate that the gateway shows, where servers ask for one.
        pub certificate: Option<ClientIdentity> = "null",
    }
}

section! {
    /// A certificate with its key.
    pub(crate) struct ClientIdentity {
        /// PEM file with the certificate, followed by those of its issuers.
        pub cert: At<PathBuf> => "name the PEM file of the certificate",
        /// PEM file with the private key.
        pub key: At<PathBuf> => "name the PEM file of the private key",
    }
}

section! {
    /// Where to learn the addresses of the servers: exactly one of `dns`, `file` and `kubernetes`.
    pub(crate) struct Discovery {
        /// A name and a port, such as `api.internal:8000`: all A and AAAA records; or `srv:_http._tcp.api.internal`: the SRV
        /// records, with their ports and weights.
        pub dns: Option<At<DnsName>> = "null",
        /// A YAML file with `targets: [...]`, as they would stand here.
        pub file: Option<At<PathBuf>> = "null",
        /// The endpoints of a service in Kubernetes.
        pub kubernetes: Option<Kubernetes> = "null",
        /// Name servers to ask; without them, those of the system.
        pub servers: Vec<Address> = "[]",
        /// How often to look. What was found last is kept when nothing can be found. Not for `kubernetes`, which tells of changes.
        pub every: Millis = "5s",
    }
}

section! {
    /// A service in Kubernetes whose `EndpointSlices` are listed and watched. Needs a program with the feature `kubernetes`, which is
    /// on unless it was built without.
    pub(crate) struct Kubernetes {
        /// Name of the service.
        pub service: At<String> => "name the service, such as service: api",
        /// Its namespace; without it, that of the pod the gateway runs in.
        pub namespace: Option<At<String>> = "null",
        /// The port of the endpoints, by its name or its number (not the service's own); without it, the only one there is.
        pub port: Option<EndpointPort> = "null",
        /// URL of the API server; without it, that of the cluster the gateway runs in (`KUBERNETES_SERVICE_HOST`).
        pub server: Option<At<HttpUrl>> = "null",
        /// PEM file with the authorities that the API server's certificate is verified against; nobody else is trusted.
        pub ca: At<PathBuf> = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        /// What the gateway shows to the API server. Read anew before each request, because it is rotated.
        pub token: At<SecretRef> = "file:/var/run/secrets/kubernetes.io/serviceaccount/token",
    }
}

section! {
    /// A cookie by which a client comes back.
    pub(crate) struct Sticky {
        /// Its name.
        pub cookie: At<String> = "capibara6_server",
        /// How long the browser keeps it; without it, until it is closed.
        pub max_age: Option<Millis> = "null",
    }
}

section! {
    /// When to leave a server out because requests fail there: connections that do not come about or break, answers that are
    /// no HTTP or do not come in time, and 502, 503 and 504.
    pub(crate) struct Eject {
        /// Failures in a row.
        pub after: u16 = "5",
        /// How long to leave it out; each time again so much longer, up to ten times. Then one request tries whether it is well.
        pub r#for: Millis = "10s",
        /// The largest share of the servers that is left out; one at least may be.
        pub max_percent: Percent = "50%",
    }
}

section! {
    /// Bounds on what one upstream has to do for this gateway. Beyond both: 503.
    pub(crate) struct Breaker {
        /// Requests under way.
        pub max_requests: u32 = "4096",
        /// Requests that wait for a place.
        pub max_pending: u32 = "1024",
        /// How long one waits at most.
        pub pending_timeout: Millis = "1s",
    }
}

section! {
    /// Active checks at an interval: exactly one of `http`, `tcp` and `grpc`.
    pub(crate) struct Health {
        /// Path to ask for; any 2xx answer counts as success.
        pub http: Option<At<String>> = "null",
        /// A connection that comes about is enough.
        pub tcp: bool = "false",
        /// Service to ask for by the gRPC health protocol; empty for the server as a whole.
        pub grpc: Option<GrpcService> = "null",
        /// Time between two checks of a server, less up to a tenth, so that gateways do not ask in step.
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
    /// What to ask for by the gRPC health protocol.
    pub(crate) struct GrpcService {
        /// Name of the service; empty for the server as a whole.
        pub service: String = "\"\"",
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
    /// When to ask another server: always when no connection came about; else only where the method may be repeated (RFC 9110
    /// §9.2.2) or the request has an `Idempotency-Key`, and only before any part of the answer went out.
    pub(crate) struct Retry {
        /// Attempts in all, the first included.
        pub attempts: u8 = "2",
        /// Retries as a share of requests, over a small reserve, so that an outage is not multiplied.
        pub budget: Percent = "20%",
        /// Wait before the second attempt, doubled before each further one, less up to a half.
        pub backoff: Millis = "25ms",
        /// How long one attempt may take until the first byte; then another server is asked. Without it a server that is slow is
        /// waited for, since a second one doing the same work does not help it.
        pub per_try: Option<Millis> = "null",
    }
}
