//! Keys of `routes`: which requests go where, and what they must show.

use common::settings::{At, ByteSize, Millis};
use common::{choice, section};

use crate::config::values::{HostPattern, PathPattern, RouteAuth, RouteMethod};

choice! {
    /// Which requests are written to the access log.
    pub(crate) enum LogWhat {
        /// Every one.
        All = "all",
        /// Those answered with 400 or more.
        Errors = "errors",
    }
}

section! {
    /// Which requests go to which upstream, and what they must show.
    pub(crate) struct Route {
        /// Its name in logs, metrics, headers and limits.
        pub id: At<String> => "give the route a name, such as id: query",
        /// Host it is for: a name, or *.name for all names below it. Without it, every host.
        pub host: Option<HostPattern> = "null",
        /// Path it is for: a path, or /prefix/* for a path and everything below it.
        pub path: PathPattern => "say which path, such as path: /api/*",
        /// Methods it is for. Without it, every method.
        pub methods: Vec<RouteMethod> = "[]",
        /// Who may use it: auth schemes, tried in this order, or `none` for everybody. Must be there.
        pub auth: Option<RouteAuth> = "null",
        /// Permissions that a caller must have, all of them.
        pub require: Vec<String> = "[]",
        /// Limits that count here.
        pub limits: Vec<At<String>> = "[]",
        /// Upstream that answers.
        pub to: At<String> => "name the upstream that answers",
        /// How long to wait for the first byte of the answer, where it differs from the upstream's own.
        pub timeout: Option<Millis> = "null",
        /// Whether clients may turn a request into a WebSocket (HTTP/1.1 only). Without it, upgrades are not passed on.
        pub websocket: bool = "false",
        /// How long a WebSocket may be silent before it is closed.
        pub websocket_idle: Millis = "1h",
        /// Size of a request's body; larger ones are answered 413.
        pub body_max: ByteSize = "10MiB",
        /// Which requests are written to the access log.
        pub log: LogWhat = "all",
    }
}
