//! Check: from what was written to what can run.
//!
//! For: bounds, cross-references and impossible mixes, all reported at once. May touch: secret references.
//! Promises: every mistake carries the place of the value it is about; a secret's text is in none of them.
//! Read next: `checked.rs`.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use common::secret::{Secret, SecretRef};
use common::settings::{At, ByteSize, Decoder, Millis};
use common::telemetry;
use common::traces::{self, Traces};

use super::checked::{
    Auth, Config, Environment, Graphql, GraphqlSocket, Hashing, Introspection, KeyRotation, Log, LoginLimits,
    Routing, Server, SigningKeySource,
};
use super::raw;

mod database;
mod jobs;
mod metrics;
mod query;
mod redis;
mod visitors;

/// The longest name of a model or key, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The shortest secret that guards introspection, in bytes.
const SECRET_BYTES_MIN: usize = 16;

/// The shortest secret under which private keys are sealed, in bytes: as long as what is made of it.
const SEAL_SECRET_BYTES_MIN: usize = 32;

/// The deepest that fields may ever stand within fields: the parser and the validator walk documents recursively.
const GRAPHQL_DEPTH_MAX: u32 = 30;

const SECOND: Duration = Duration::from_secs(1);

/// The checked configuration; `None` when something could not be mended for the sake of further checks.
pub(super) fn check(file: raw::File, decoder: &mut Decoder) -> Option<Config> {
    if file.version.value != 1 {
        decoder.mistake_at(&file.version, format!("{} is not known; write 1", file.version.value));
    }
    let production = file.environment.value == Environment::Production;
    if production && file.auth.signing_keys.is_empty() {
        decoder.mistake_at(&file.environment, "production needs at least one key in auth.signing_keys");
    }
    if production && file.introspection.secret.is_none() {
        decoder.mistake_at(&file.environment, "production needs introspection.secret");
    }
    if production && file.models.is_empty() {
        decoder.mistake_at(&file.environment, "production needs at least one entry in models");
    }
    // Each part is checked before any is judged, so that all mistakes are found.
    let log = log(file.log, decoder);
    let traces = file.traces.and_then(|raw| traces(&raw, decoder));
    let server = server(file.server, decoder);
    let database = database::database(file.database, decoder);
    let redis = redis::redis(file.redis, decoder);
    let auth = auth(file.auth, decoder);
    let introspection = introspection(&file.introspection, decoder);
    let models = query::models(file.models, decoder);
    let large_from = bounded(&file.routing.large_from, 0, 100, decoder);
    let cache = query::cache(&file.cache, decoder);
    let streams = query::streams(&file.streams, decoder);
    let playbooks = query::playbooks(file.playbooks, decoder);
    let sandbox = file.sandbox.and_then(|sandbox| query::sandbox(sandbox, decoder));
    let jobs = jobs::jobs(&file.jobs, decoder);
    let history = metrics::history(&file.metrics, decoder);
    let body_bytes_max = server.as_ref().map(|server| server.body_bytes_max);
    let graphql = graphql(file.graphql, production, body_bytes_max, decoder);
    Some(Config {
        environment: file.environment.value,
        log: log?,
        traces,
        server: server?,
        database: database?,
        redis,
        auth: auth?,
        introspection: introspection?,
        models: models?,
        routing: Routing { large_from: large_from? },
        cache: cache?,
        streams: streams?,
        playbooks: playbooks?,
        sandbox,
        jobs: jobs?,
        history: history?,
        graphql: graphql?,
    })
}

fn log(raw: raw::Log, decoder: &mut Decoder) -> Option<Log> {
    if let Err(error) = telemetry::check_filter(&raw.filter.value) {
        decoder.mistake_at(&raw.filter, error.to_string());
        return None;
    }
    // Both know the same two words.
    Some(Log { filter: raw.filter.value, format: raw.format.word().parse().unwrap_or_default() })
}

/// `None` also after a mistake, which is reported.
fn traces(raw: &Traces, decoder: &mut Decoder) -> Option<traces::Settings> {
    raw.check(decoder);
    match raw.resolve() {
        Ok(settings) => Some(settings),
        Err(mistakes) => {
            for (at, message) in mistakes {
                decoder.mistake_at(&at, message);
            }
            None
        }
    }
}

fn server(raw: raw::Server, decoder: &mut Decoder) -> Option<Server> {
    let shared = |one: SocketAddr, other: SocketAddr| one == other && one.port() != 0;
    if shared(raw.api.0, raw.internal.value.0) {
        decoder.mistake_at(&raw.internal, "server.api and server.internal must not share one address");
    }
    if shared(raw.api.0, raw.graphql.value.0) || shared(raw.internal.value.0, raw.graphql.value.0) {
        decoder.mistake_at(&raw.graphql, "server.graphql must have an address of its own");
    }
    let header_timeout = lasting(&raw.header_timeout, decoder);
    let keepalive = lasting(&raw.keepalive, decoder);
    let request_timeout = lasting(&raw.request_timeout, decoder);
    let body_bytes_max = size(&raw.body_max, decoder);
    let connections_max = bounded(&raw.max_connections, 1, 1_000_000, decoder);
    let trusted_hosts = visitors::hosts(raw.trusted_hosts, decoder);
    let cors = visitors::cors(raw.cors, decoder);
    Some(Server {
        api: raw.api.0,
        graphql: raw.graphql.value.0,
        internal: raw.internal.value.0,
        drain: raw.drain.duration(),
        header_timeout: header_timeout?,
        keepalive: keepalive?,
        request_timeout: request_timeout?,
        body_bytes_max: body_bytes_max?,
        connections_max: usize::try_from(connections_max?).ok()?,
        trusted_proxies: raw.trusted_proxies.into_iter().map(|network| network.0).collect(),
        trusted_hosts: trusted_hosts?,
        cors: cors?,
    })
}

fn auth(raw: raw::Auth, decoder: &mut Decoder) -> Option<Auth> {
    for text in [&raw.issuer, &raw.audience] {
        if text.value.trim().is_empty() {
            decoder.mistake_at(text, "must not be empty");
        }
    }
    let access_token_ttl = lasting(&raw.access_token_ttl, decoder);
    let refresh_token_ttl = lasting(&raw.refresh_token_ttl, decoder);
    let signing_keys = signing_keys(raw.signing_keys, decoder);
    let rotation = rotation(&raw.rotation, decoder);
    let concurrent_max = bounded(&raw.hashing.concurrent_max, 1, 64, decoder);
    let waiting_max = bounded(&raw.hashing.waiting_max, 0, 10_000, decoder);
    let failures_max = bounded(&raw.login.failures_max, 1, 1_000_000, decoder);
    let window = lasting(&raw.login.window, decoder);
    Some(Auth {
        issuer: raw.issuer.value,
        audience: raw.audience.value,
        access_token_ttl: access_token_ttl?,
        refresh_token_ttl: refresh_token_ttl?,
        signing_keys: signing_keys?,
        rotation: rotation?,
        hashing: Hashing {
            concurrent_max: usize::try_from(concurrent_max?).ok()?,
            waiting_max: usize::try_from(waiting_max?).ok()?,
        },
        login: LoginLimits { failures_max: failures_max?, window: window? },
    })
}

fn signing_keys(raw: Vec<raw::SigningKey>, decoder: &mut Decoder) -> Option<Vec<SigningKeySource>> {
    let mut seen = HashSet::new();
    let checked: Vec<Option<SigningKeySource>> = raw
        .into_iter()
        .map(|key| {
            let id = unique_name(&key.id, "key", &mut seen, decoder);
            let pem = secret(&key.key, decoder);
            Some(SigningKeySource { id: id?, pem: pem? })
        })
        .collect();
    checked.into_iter().collect()
}

fn rotation(raw: &raw::Rotation, decoder: &mut Decoder) -> Option<KeyRotation> {
    let publish_before = lasting(&raw.publish_before, decoder);
    let overlap = lasting(&raw.overlap, decoder);
    let secret = match &raw.secret {
        Some(reference) => {
            let secret = secret(reference, decoder)?;
            if secret.expose().len() < SEAL_SECRET_BYTES_MIN {
                decoder.mistake_at(reference, format!("holds fewer than {SEAL_SECRET_BYTES_MIN} bytes"));
                return None;
            }
            Some(secret)
        }
        None => None,
    };
    Some(KeyRotation { secret, publish_before: publish_before?, overlap: overlap? })
}

fn introspection(raw: &raw::Introspection, decoder: &mut Decoder) -> Option<Introspection> {
    let Some(reference) = &raw.secret else { return Some(Introspection { secret: None }) };
    let secret = secret(reference, decoder)?;
    if secret.expose().len() < SECRET_BYTES_MIN {
        decoder.mistake_at(reference, format!("holds fewer than {SECRET_BYTES_MIN} bytes, which can be guessed"));
        return None;
    }
    Some(Introspection { secret: Some(secret) })
}

fn graphql(
    raw: raw::Graphql,
    production: bool,
    body_bytes_max: Option<usize>,
    decoder: &mut Decoder,
) -> Option<Graphql> {
    // A body that is too large never arrives, whatever it holds.
    let document_bytes_max = size(&raw.document_max, decoder).zip(body_bytes_max).map(|(own, body)| own.min(body));
    let depth_max = count(&raw.depth_max, 1, GRAPHQL_DEPTH_MAX, decoder);
    let complexity_max = count(&raw.complexity_max, 1, 1_000_000, decoder);
    let aliases_max = count(&raw.aliases_max, 0, 10_000, decoder);
    let directives_max = count(&raw.directives_max, 0, 10_000, decoder);
    let batch_max = count(&raw.batch_max, 1, 1_000, decoder);
    let persisted_max = bounded(&raw.persisted_max, 1, 1_000_000, decoder);
    let socket = graphql_socket(&raw.socket, decoder);
    Some(Graphql {
        introspection: raw.introspection.unwrap_or(!production),
        ide_path: raw.ide_path,
        document_bytes_max: document_bytes_max?,
        depth_max: depth_max?,
        complexity_max: complexity_max?,
        aliases_max: aliases_max?,
        directives_max: directives_max?,
        batch_max: batch_max?,
        persisted_max: u64::from(persisted_max?),
        socket: socket?,
    })
}

fn graphql_socket(raw: &raw::GraphqlSocket, decoder: &mut Decoder) -> Option<GraphqlSocket> {
    let message_bytes_max = size(&raw.message_max, decoder);
    let operations_max = count(&raw.operations_max, 1, 1_000, decoder);
    let init_timeout = lasting(&raw.init_timeout, decoder);
    let ping_period = lasting(&raw.ping, decoder);
    Some(GraphqlSocket {
        message_bytes_max: message_bytes_max?,
        operations_max: operations_max?,
        init_timeout: init_timeout?,
        ping_period: ping_period?,
    })
}

/// A bounded number of things.
fn count(at: &At<u32>, min: u32, max: u32, decoder: &mut Decoder) -> Option<usize> {
    usize::try_from(bounded(at, min, max, decoder)?).ok()
}

fn bounded<T: PartialOrd + Copy + Display>(at: &At<T>, min: T, max: T, decoder: &mut Decoder) -> Option<T> {
    if at.value < min || at.value > max {
        decoder.mistake_at(at, format!("{} is out of range: {min} to {max}", at.value));
        return None;
    }
    Some(at.value)
}

/// A time that is at least a second long: shorter ones here are always a slip.
fn lasting(at: &At<Millis>, decoder: &mut Decoder) -> Option<Duration> {
    let duration = at.value.duration();
    if duration < SECOND {
        decoder.mistake_at(at, format!("{} is shorter than 1s", at.value));
        return None;
    }
    Some(duration)
}

/// A size that is at least a kibibyte and fits this machine.
fn size(at: &At<ByteSize>, decoder: &mut Decoder) -> Option<usize> {
    let bytes = at.value.bytes();
    match usize::try_from(bytes) {
        Ok(fitting) if (1024..=1024 * 1024 * 1024).contains(&fitting) => Some(fitting),
        _ => {
            decoder.mistake_at(at, format!("{bytes} bytes is out of range: 1KiB to 1GiB"));
            None
        }
    }
}

fn unique_name(at: &At<String>, kind: &str, seen: &mut HashSet<String>, decoder: &mut Decoder) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
    let name = &at.value;
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(allowed) {
        decoder.mistake_at(
            at,
            format!("{name:?} cannot name a {kind}: 1 to {NAME_CHARS_MAX} letters, digits, \"_\", \"-\", \".\", \":\" or \"/\""),
        );
        return None;
    }
    if !seen.insert(name.clone()) {
        decoder.mistake_at(at, format!("{name:?} names two {kind}s"));
        return None;
    }
    Some(name.clone())
}

fn secret(reference: &At<SecretRef>, decoder: &mut Decoder) -> Option<Secret> {
    reference.value.resolve().map_err(|error| decoder.mistake_at(reference, error.to_string())).ok()
}
