//! Checked: the configuration in the form the other rooms work with.
//!
//! For: names resolved to positions, text resolved to types. May touch: nothing.
//! Promises: every index points at something; see `check.rs` for what else holds. Read next: the room that you build.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::redis::RedisUrl;
use common::secret::SecretRef;
use common::settings::At;
use common::traces::Traces;
use http::{HeaderName, Method};
use ipnet::IpNet;

pub(crate) use super::amounts::{LIMIT_PARTS_MAX, LimitKeyPart, Quota};
pub(crate) use super::answers::{Cors, Does, HeaderRules, Redirect, Respond, Rewrite};
pub(crate) use super::cases::{Assumed, Case, Expect, RequestLine};
pub(crate) use super::fields::Origin;
pub(crate) use super::raw::answers::{Coding, Compression};
pub(crate) use super::raw::auth::{
    CertificateName, ClaimNames, ClientCertificate, Introspection, KeySet, OpaqueTokens, RedisKeys, TokenAlgorithm,
};
pub(crate) use super::raw::headers::{FrameOptions, ReferrerPolicy, SecurityHeaders};
pub(crate) use super::raw::limits::StoreDown;
pub(crate) use super::raw::listeners::{ClientAuth, ClientAuthMode, KeyType, Suite, TlsVersion};
pub(crate) use super::raw::revocations::Revocations;
pub(crate) use super::raw::routes::LogWhat;
pub(crate) use super::raw::server::{
    ClientIp, Environment, Leniency, LimitHeader, Log, LogLines, Server, Underscores,
};
pub(crate) use super::raw::upstreams::{
    Balance, Breaker, ClientIdentity, Eject, Protocol, Retry, Sticky, Timeouts, UpstreamTls,
};
pub(crate) use super::targets::{DnsName, EndpointPort, HashBy, Place, Target};
pub(crate) use super::traffic::{DeadlineRule, Mirror, Split};
pub(crate) use super::values::{HostPattern, PathPattern, Rate, Workers};

/// One gateway.
#[derive(Debug, PartialEq)]
pub(crate) struct Config {
    pub environment: Environment,
    pub log: Log,
    pub server: Server,
    /// Where and of how many requests is told; nothing is, if `None`.
    pub traces: Option<Traces>,
    pub admin: Option<SocketAddr>,
    pub client_ip: ClientIp,
    pub listeners: Vec<Listener>,
    pub upstreams: Vec<Upstream>,
    pub schemes: Vec<Scheme>,
    /// Where to ask what was withdrawn.
    pub revocations: Option<Revocations>,
    /// What gateways share; `None` where each is by itself.
    pub redis: Option<Redis>,
    pub limits: Vec<Limit>,
    pub cors: Vec<Cors>,
    /// Fields of upstreams that clients never see.
    pub hide_headers: Vec<HeaderName>,
    pub security_headers: Option<SecurityHeaders>,
    pub routes: Vec<Route>,
    /// Requests with what must become of them. Nothing that serves looks at them.
    pub cases: Vec<Case>,
}

impl Config {
    /// The files that it names and that are read with it: certificates, keys, key sets, users, secrets.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&Path> = Vec::new();
        for listener in &self.listeners {
            if let ListenerKind::Tls(tls) = &listener.kind {
                files.extend(tls.certificates.iter().flat_map(|pair| [&*pair.cert.value, &*pair.key.value]));
                files.extend(tls.client_auth.iter().map(|clients| &*clients.ca.value));
                files.extend(tls.acme.iter().filter_map(|acme| acme.ca.as_ref()).map(|ca| &*ca.value));
            }
        }
        let authorities = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()?.ca.as_ref());
        files.extend(authorities.map(|ca| &*ca.value));
        let shown = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()?.certificate.as_ref());
        files.extend(shown.flat_map(|identity| [&*identity.cert.value, &*identity.key.value]));
        files.extend(self.schemes.iter().filter_map(|scheme| scheme.kind.file()));
        files.extend(self.redis.iter().filter_map(|redis| redis.ca.as_ref()).map(|ca| &*ca.value));
        let secrets = self.schemes.iter().filter_map(|scheme| scheme.kind.secret());
        let secrets = secrets.chain(self.redis.iter().filter_map(|redis| redis.password.as_ref()));
        let secrets = secrets.chain(self.revocations.iter().filter_map(|feed| feed.secret.as_ref()));
        files.extend(secrets.filter_map(|secret| match &secret.value {
            SecretRef::File(file) => Some(&**file),
            SecretRef::Env(_) => None,
        }));
        files
    }

    /// The certificates that are to be ordered; what several listeners want alike, once.
    pub(crate) fn orders(&self) -> Vec<&Acme> {
        let mut orders: Vec<&Acme> = Vec::new();
        for listener in &self.listeners {
            if let ListenerKind::Tls(tls) = &listener.kind
                && let Some(acme) = &tls.acme
                && !orders.contains(&acme)
            {
                orders.push(acme);
            }
        }
        orders
    }

    /// The claims that limits count by and that rules compare, besides the subject.
    pub(crate) fn kept_claims(&self) -> Arc<[Arc<str>]> {
        let by = self.limits.iter().flat_map(|limit| &limit.by).filter_map(|part| match part {
            LimitKeyPart::Claim(name) => Some(Arc::clone(name)),
            _ => None,
        });
        let owners = self.routes.iter().filter_map(|route| Some(Arc::clone(&route.owner.as_ref()?.claim)));
        let mut names: Vec<Arc<str>> = by.chain(owners).collect();
        names.sort_unstable();
        names.dedup();
        names.into()
    }
}

/// An address where clients connect.
#[derive(Debug, PartialEq)]
pub(crate) struct Listener {
    pub name: Arc<str>,
    pub bind: SocketAddr,
    /// Whether every connection begins with a header that names the client.
    pub proxy_protocol: bool,
    pub kind: ListenerKind,
}

/// What a listener does.
#[derive(Debug, PartialEq)]
pub(crate) enum ListenerKind {
    /// Plain HTTP/1.1.
    Plain,
    /// Plain, and every request is sent to `https` on this port, or on that of the first TLS listener.
    RedirectToHttps { port: Option<u16> },
    /// TLS with HTTP/2 and HTTP/1.1.
    Tls(Box<ListenerTls>),
}

/// How a listener speaks TLS.
#[derive(Debug, PartialEq)]
pub(crate) struct ListenerTls {
    pub certificates: Vec<CertificateFiles>,
    /// What is ordered besides, or instead.
    pub acme: Option<Acme>,
    pub min_version: TlsVersion,
    /// Empty for every suite.
    pub suites: Vec<Suite>,
    /// Whose certificates clients may show; `None` where none is asked for.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate that is ordered and renewed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Acme {
    /// In lower case; at least one.
    pub names: Vec<Arc<str>>,
    pub directory: url::Url,
    pub contact: Vec<String>,
    pub ca: Option<At<PathBuf>>,
    pub storage: PathBuf,
    pub renew_before: Duration,
    pub key_type: KeyType,
}

/// The PEM files of a certificate and its key, and where the file names them.
#[derive(Debug, PartialEq)]
pub(crate) struct CertificateFiles {
    pub cert: At<PathBuf>,
    pub key: At<PathBuf>,
}

/// A set of servers that give the same answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Upstream {
    pub name: Arc<str>,
    pub source: Source,
    pub protocol: Protocol,
    pub tls: Option<UpstreamTls>,
    pub balance: Balance,
    pub hash_by: Option<HashBy>,
    pub sticky: Option<Sticky>,
    pub health: Option<Health>,
    /// In percent of the servers; 0 for never.
    pub panic_below: u8,
    pub eject: Option<Eject>,
    pub slow_start: Option<Duration>,
    pub breaker: Breaker,
    pub timeouts: Timeouts,
    pub retry: Retry,
}

/// Where the servers of an upstream are known from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Fixed(Vec<Target>),
    Dns { name: DnsName, servers: Vec<SocketAddr>, every: Duration },
    File { file: At<PathBuf>, every: Duration },
    Kubernetes(Box<Kubernetes>),
}

/// A service of Kubernetes whose endpoints are the servers. Its files are read when it is asked, not with the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kubernetes {
    pub service: At<String>,
    /// `None` for the one this runs in.
    pub namespace: Option<String>,
    /// `None` for the only one.
    pub port: Option<EndpointPort>,
    /// Where the API server is.
    pub server: url::Url,
    pub ca: At<PathBuf>,
    pub token: At<SecretRef>,
}

/// Active checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub check: Check,
    pub every: Duration,
    pub timeout: Duration,
    pub up_after: u32,
    pub down_after: u32,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A path, by HTTP.
    Http(String),
    /// A connection.
    Tcp,
    /// A service, by the gRPC health protocol.
    Grpc(String),
}

/// A way to prove who one is.
#[derive(Debug, PartialEq)]
pub(crate) struct Scheme {
    pub name: Arc<str>,
    pub kind: SchemeKind,
}

/// The kinds of credentials.
#[derive(Debug, PartialEq)]
pub(crate) enum SchemeKind {
    Jwt(Jwt),
    ApiKey { header: HeaderName, bearer: bool, source: KeySource },
    Opaque(OpaqueTokens),
    Basic(Basic),
    Forward(Forward),
    Certificate(ClientCertificate),
}

/// Who knows the API keys.
#[derive(Debug, PartialEq)]
pub(crate) enum KeySource {
    Introspection(Introspection),
    File(At<PathBuf>),
    Redis(RedisKeys),
}

impl SchemeKind {
    /// Whether nothing it works with is read from a file or the environment.
    pub(crate) fn is_without_files(&self) -> bool {
        self.file().is_none() && self.secret().is_none()
    }

    fn file(&self) -> Option<&Path> {
        match self {
            Self::Jwt(Jwt { keys: JwtKeys::File(file), .. })
            | Self::ApiKey { source: KeySource::File(file), .. }
            | Self::Basic(Basic { file, .. }) => Some(&file.value),
            _ => None,
        }
    }

    fn secret(&self) -> Option<&At<SecretRef>> {
        match self {
            Self::Jwt(Jwt { keys: JwtKeys::Shared(secret), .. }) => Some(secret),
            Self::ApiKey { source: KeySource::Introspection(introspection), .. } => introspection.secret.as_ref(),
            Self::Opaque(tokens) => tokens.ask.secret.as_ref(),
            _ => None,
        }
    }
}

/// User name and password.
#[derive(Debug, PartialEq)]
pub(crate) struct Basic {
    pub file: At<PathBuf>,
    pub realm: String,
    pub cache: Duration,
    pub hashing_max: usize,
}

/// A service that decides.
#[derive(Debug, PartialEq)]
pub(crate) struct Forward {
    pub url: url::Url,
    pub send: Vec<HeaderName>,
    pub subject: HeaderName,
    pub permissions: HeaderName,
    pub roles: HeaderName,
    pub copy: Vec<HeaderName>,
    pub timeout: Duration,
    pub questions_max: usize,
}

/// Signed tokens.
#[derive(Debug, PartialEq)]
pub(crate) struct Jwt {
    pub issuer: String,
    pub audience: String,
    /// `typ` that a token must have; `None` accepts any.
    pub token_type: Option<String>,
    pub algorithms: Vec<TokenAlgorithm>,
    pub keys: JwtKeys,
    pub claims: ClaimNames,
    pub cookie: Option<String>,
    pub query: Option<String>,
    pub websocket_protocol: bool,
    pub leeway: Duration,
    pub cache_max: u32,
}

/// Where the keys of a JWT scheme come from.
#[derive(Debug, PartialEq)]
pub(crate) enum JwtKeys {
    Fetched(KeySet),
    File(At<PathBuf>),
    Shared(At<SecretRef>),
}

/// A Redis server, or several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redis {
    pub place: RedisPlace,
    pub username: Option<String>,
    pub password: Option<At<SecretRef>>,
    pub ca: Option<At<PathBuf>>,
    pub database: u8,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub prefix: String,
}

/// How the server is found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RedisPlace {
    Server(RedisUrl),
    Sentinel { urls: Vec<RedisUrl>, service: String },
    Cluster(Vec<RedisUrl>),
}

/// How much a caller may ask.
#[derive(Debug, PartialEq)]
pub(crate) struct Limit {
    pub name: Arc<str>,
    pub by: Box<[LimitKeyPart]>,
    pub measure: Measure,
    pub cost: u32,
    /// Header of the answer that tells what a request has cost.
    pub cost_from: Option<HeaderName>,
    /// How it is shared; `None` where each process counts by itself.
    pub shared: Option<Shared>,
    pub keys_max: usize,
    pub shadow: bool,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Rate { rate: Rate, burst: u32 },
    Quota(Quota),
    Concurrent(u32),
}

/// How a limit is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub store_down: StoreDown,
    pub batch: u32,
}

impl Limit {
    /// Whether it counts by something that is known only once the caller is.
    pub(crate) fn needs_identity(&self) -> bool {
        self.by.iter().any(LimitKeyPart::needs_identity)
    }
}

/// Which requests go to which upstream, and what they must show.
#[derive(Debug, PartialEq)]
pub(crate) struct Route {
    pub id: Arc<str>,
    pub host: Option<HostPattern>,
    pub path: PathPattern,
    /// Empty for every method.
    pub methods: Vec<Method>,
    /// Empty for every address.
    pub allow_from: Vec<IpNet>,
    /// Position in `Config::cors`.
    pub cors: Option<usize>,
    /// Positions in `Config::schemes`; empty for a public route.
    pub schemes: Vec<usize>,
    pub require: Requirements,
    pub owner: Option<Owner>,
    pub client_certificate: CertificateUse,
    /// Whether it is only watched who is unknown.
    pub shadow_auth: bool,
    /// Whether it is only watched who may not.
    pub shadow_require: bool,
    /// Positions in `Config::limits`.
    pub limits: Vec<usize>,
    pub does: Does,
    pub rewrite: Option<Rewrite>,
    pub request_headers: HeaderRules,
    pub response_headers: HeaderRules,
    pub compress: Option<Compression>,
    pub mirror: Option<Mirror>,
    pub timeout: Option<Duration>,
    /// How long the whole request may take.
    pub deadline: Option<DeadlineRule>,
    /// How long a WebSocket may be silent; `None` where there may be none.
    pub websocket_idle: Option<Duration>,
    /// After how long a silence an answer of events is kept awake; its upstream speaks plain HTTP/1.1 then.
    pub sse_heartbeat: Option<Duration>,
    pub body_bytes_max: u64,
    pub log: LogWhat,
}

/// What a route makes of the client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CertificateUse {
    /// Whether there must be one.
    pub required: bool,
    /// Whether the upstream is told.
    pub passed_on: bool,
}

/// What a caller must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Requirements {
    pub always: Needs,
    /// What is needed besides for these methods.
    pub by_method: Vec<(Method, Needs)>,
}

/// Permissions and roles; what is empty asks for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Needs {
    pub all: Box<[Arc<str>]>,
    pub any: Box<[Arc<str>]>,
    pub roles: Box<[Arc<str>]>,
}

/// The part of the path that must name the caller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owner {
    pub claim: Arc<str>,
    /// Counted from 0.
    pub segment: usize,
    pub unless: Box<[Arc<str>]>,
}

#[cfg(test)]
pub(crate) use super::raw::auth::RequiredClaim;
