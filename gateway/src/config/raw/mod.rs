//! Raw: the file as it is written, section by section.
//!
//! For: the keys, their forms, their defaults and their meaning, in one place each; parser, manual and schema are made
//! from these. May touch: `values.rs`. Promises: nothing here looks from one key to another; that is `check.rs`.
//! Read next: `routes.rs`.

pub(super) mod answers;
pub(super) mod auth;
pub(super) mod cases;
pub(super) mod cors;
pub(super) mod headers;
pub(super) mod limits;
pub(super) mod listeners;
pub(super) mod revocations;
pub(super) mod routes;
pub(super) mod server;
pub(super) mod stores;
pub(super) mod traffic;
pub(super) mod upstreams;

use common::section;
use common::settings::{At, Named};

use super::fields::FieldName;

section! {
    /// One gateway: where it listens, whom it asks, who may use it. Unknown keys are refused. `${NAME:-default}` is filled
    /// in from environment variables whose names begin with `CAPIBARA6_` or `GATEWAY_`.
    pub(super) struct File {
        /// Layout of this file; must be there. Only `1` is known.
        pub version: Option<At<u32>> = "null",
        /// What kind of place this is; `production` refuses what is only fit for a laptop.
        pub environment: server::Environment = "production",
        /// The gateway's own log, on standard error.
        pub log: server::Log = "{}",
        /// Limits and deadlines for all connections.
        pub server: server::Server = "{}",
        /// Traces, told to a collector by OTLP.
        pub traces: Option<common::traces::Traces> = "null",
        /// The operators' side door: metrics and health.
        pub admin: Option<server::Admin> = "null",
        /// How the client's address is found.
        pub client_ip: server::ClientIp = "{}",
        /// Where clients connect, by name.
        pub listeners: Named<listeners::Listener> = "{}",
        /// Who answers, by name.
        pub upstreams: Named<upstreams::Upstream> = "{}",
        /// How callers prove who they are, by name.
        pub auth: Named<auth::Scheme> = "{}",
        /// Where to ask what was withdrawn before its end.
        pub revocations: Option<revocations::Revocations> = "null",
        /// What gateways share with each other.
        pub stores: stores::Stores = "{}",
        /// How much a caller may ask, by name.
        pub limits: Named<limits::Limit> = "{}",
        /// Whose pages may read answers, by name.
        pub cors: Named<cors::Cors> = "{}",
        /// Fields of upstreams that clients never see, on every route.
        pub hide_headers: Vec<At<FieldName>> = "[Server, X-Powered-By]",
        /// What browsers are told on every answer; nothing where it is not there.
        pub security_headers: Option<headers::SecurityHeaders> = "null",
        /// What goes where. The most specific route wins; the order in the file never matters.
        pub routes: Vec<routes::Route> = "[]",
        /// Requests, and what must become of them; only `gateway test` runs them.
        pub tests: Vec<cases::Case> = "[]",
    }
}
