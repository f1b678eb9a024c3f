//! Keys of `routes`: which requests go where, and what they must show.

use common::settings::{At, ByteSize, Millis, Named};
use common::{choice, section};

use super::answers::{Redirect, Respond, Rewrite};
use super::headers::{RequestRules, ResponseRules};
use super::traffic::{DeadlineUntil, Mirror, SplitSide};
use crate::config::fields::Compress;
use crate::config::targets::SplitBy;
use crate::config::values::{HostPattern, MethodNeeds, Network, PathPattern, Require, RouteAuth, RouteMethod};

choice! {
    /// Which requests are written to the access log.
    pub(crate) enum LogWhat {
        /// Every one.
        All = "all",
        /// Those answered with 400 or more.
        Errors = "errors",
    }
}

choice! {
    /// What may be only watched.
    pub(crate) enum Watched {
        /// Whether the caller is known. Who is not passes without an identity.
        Auth = "auth",
        /// Whether the caller may: `require` and `owner`.
        Require = "require",
    }
}

choice! {
    /// What is demanded of the client's certificate.
    pub(crate) enum CertificateDemand {
        /// That there is one, verified in the handshake.
        Required = "required",
    }
}

section! {
    /// What a caller must have.
    pub(crate) struct Needs {
        /// Permissions, all of them.
        pub all: Vec<String> = "[]",
        /// Permissions, one of them.
        pub any: Vec<String> = "[]",
        /// Roles, one of them.
        pub roles: Vec<String> = "[]",
    }
}

section! {
    /// What a caller must have, and what more for some methods.
    pub(crate) struct NeedsByMethod {
        /// Permissions, all of them.
        pub all: Vec<String> = "[]",
        /// Permissions, one of them.
        pub any: Vec<String> = "[]",
        /// Roles, one of them.
        pub roles: Vec<String> = "[]",
        /// What is needed besides for a method, by its name; each a list of permissions, or all, any and roles.
        pub methods: Named<MethodNeeds> = "{}",
    }
}

section! {
    /// Whose resource it is: a part of the path names its owner.
    pub(crate) struct Owner {
        /// Claim of the caller that must be there; `sub` is the subject.
        pub claim: String = "sub",
        /// Which part, counted from 1: in `/users/42/keys`, the second is `42`.
        pub segment: u8 => "say which part of the path names the owner, counted from 1",
        /// Permissions that lift the rule, one of them.
        pub unless: Vec<String> = "[]",
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
        /// Networks of the addresses that may use it; others are answered 403. Empty for every address.
        pub allow_from: Vec<Network> = "[]",
        /// Whose pages may read its answers, by a name in `cors`.
        pub cors: Option<At<String>> = "null",
        /// Who may use it: auth schemes, tried in this order, or `none` for everybody. Must be there.
        pub auth: Option<RouteAuth> = "null",
        /// What a caller must have: a list of permissions, all of which are needed, or more than that, by name. Must be there
        /// unless the route is public; `require: []` says that any known caller may use it.
        pub require: Option<Require> = "null",
        /// The part of the path that must name the caller.
        pub owner: Option<Owner> = "null",
        /// What is only watched: what it would refuse is noted in log and metrics, and passes.
        pub shadow: Vec<Watched> = "[]",
        /// Whether the client must have shown a certificate in the handshake; who has not is answered 403. For callers that are
        /// known by theirs, see `auth.*.client_certificate`.
        pub client_certificate: Option<At<CertificateDemand>> = "null",
        /// Whether the upstream is told the client's certificate, in the `Client-Cert` field (RFC 9440). What clients send under
        /// that name is taken away on every route.
        pub pass_client_certificate: At<bool> = "false",
        /// Limits that count here.
        pub limits: Vec<At<String>> = "[]",
        /// Upstream that answers. A route has exactly one of `to`, `split`, `respond` and `redirect`.
        pub to: Option<At<String>> = "null",
        /// Upstreams that answer, each for its share of the requests. A request stays with its side when it is tried again.
        pub split: Vec<SplitSide> = "[]",
        /// What decides between the sides: `request` draws for each request; `client.ip`, `identity.subject`, `header.NAME` and
        /// `cookie.NAME` lead the same caller to the same side, and requests without it are drawn for.
        pub split_by: Option<At<SplitBy>> = "null",
        /// Copies of requests for another upstream.
        pub mirror: Option<Mirror> = "null",
        /// Answer this instead of asking an upstream.
        pub respond: Option<Respond> = "null",
        /// Send clients elsewhere instead of asking an upstream.
        pub redirect: Option<Redirect> = "null",
        /// Under what name and path the upstream is asked.
        pub rewrite: Option<Rewrite> = "null",
        /// What the upstream is told besides.
        pub request_headers: RequestRules = "{}",
        /// What the client is told besides.
        pub response_headers: ResponseRules = "{}",
        /// Whether answers are compressed for clients that ask for it: `true`, or how.
        pub compress: Compress = "false",
        /// How long to wait for the first byte of the answer, where it differs from the upstream's own.
        pub timeout: Option<Millis> = "null",
        /// How long the whole request may take, from its head to the last byte of the answer: waits, attempts and pauses between
        /// them included. The upstream is told what is left. Without it, each wait has only its own bound.
        pub deadline: Option<Millis> = "null",
        /// Up to where the deadline holds.
        pub deadline_until: DeadlineUntil = "end",
        /// Whether clients may turn a request into a WebSocket (HTTP/1.1 only). Without it, upgrades are not passed on.
        pub websocket: bool = "false",
        /// How long a WebSocket may be silent before it is closed.
        pub websocket_idle: Millis = "1h",
        /// After how long a silence of the upstream a comment is put into an answer of server-sent events (`text/event-stream`
        /// in chunks, not encoded), between two events, so that nobody on the way takes the stream for dead. How long the
        /// upstream may be silent is still its timeout. Only for upstreams in HTTP/1.1 without `tls`; requests here do not
        /// share connections.
        pub sse_heartbeat: Option<At<Millis>> = "null",
        /// Size of a request's body; larger ones are answered 413.
        pub body_max: ByteSize = "10MiB",
        /// Which requests are written to the access log.
        pub log: LogWhat = "all",
    }
}

impl Route {
    /// The upstreams that answer, by their names.
    pub(in crate::config) fn asked(&self) -> impl Iterator<Item = &At<String>> {
        self.to.iter().chain(self.split.iter().map(|side| &side.to))
    }
}
