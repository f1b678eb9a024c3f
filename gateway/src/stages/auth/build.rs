//! Build: from the configuration of a scheme to what checks its credentials.
//!
//! For: `snapshot`, when a configuration is taken in. May touch: the files and secrets that the scheme names.
//! Promises: what cannot be used is told with its place; nothing is started.

use std::path::PathBuf;
use std::sync::Arc;

use common::secret::{Secret, SecretRef};
use common::settings::{At, Mistake};

use super::api_key::{ApiKeyVerifier, KeySource, RedisKeySource};
use super::authenticate::{Scheme, SchemeCounts, Verifier};
use super::basic::{BasicVerifier, Users};
use super::certificate::CertificateVerifier;
use super::claims::Reader;
use super::credential::Bearers;
use super::forward::ForwardVerifier;
use super::identity::Method;
use super::introspect::{Introspector, Tools};
use super::jwks::{self, Key, KeyStore};
use super::jwt::JwtVerifier;
use super::key_file::FileKeys;
use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::{self, ClaimNames, Introspection, JwtKeys, SchemeKind};
use crate::store::Store;

/// The shortest shared secret, in bytes: as long as the hash (RFC 7518 §3.2).
const SHARED_SECRET_BYTES_MIN: usize = 32;

/// What schemes are built with.
pub(crate) struct Workshop<'a> {
    pub metrics: &'a Metrics,
    pub client: &'a reqwest::Client,
    pub store: Option<&'a Arc<Store>>,
    /// Claims that limits and rules ask for later.
    pub kept: Arc<[Arc<str>]>,
}

impl Workshop<'_> {
    /// Builds a scheme.
    ///
    /// # Errors
    /// What cannot be used, at its place in the configuration.
    pub(crate) fn scheme(&self, scheme: &checked::Scheme) -> Result<Scheme, Mistake> {
        let name = &scheme.name;
        let verifier = match &scheme.kind {
            SchemeKind::Jwt(jwt) => {
                Verifier::Jwt(Box::new(JwtVerifier::new(jwt, self.key_store(name, &jwt.keys)?, &self.kept)))
            }
            SchemeKind::ApiKey { header, bearer, source } => {
                let source = self.key_source(name, source)?;
                Verifier::ApiKey(Box::new(ApiKeyVerifier::new(header.clone(), source)), *bearer)
            }
            SchemeKind::Opaque(tokens) => {
                let audience = tokens.audience.clone();
                let introspector =
                    self.introspector(name, &tokens.ask, Method::Introspection, audience, &tokens.claims);
                Verifier::Opaque(Box::new(introspector?))
            }
            SchemeKind::Basic(basic) => {
                let users = Users::read(&basic.file.value).map_err(|report| at(&basic.file, report.to_string()))?;
                Verifier::Basic(Box::new(BasicVerifier::new(basic, users)))
            }
            SchemeKind::Forward(forward) => {
                Verifier::Forward(Box::new(ForwardVerifier::new(Arc::clone(name), forward, self.client.clone())))
            }
            SchemeKind::Certificate(settings) => Verifier::Certificate(CertificateVerifier::new(settings.clone())),
        };
        let count = |outcome| self.metrics.auth.outcome(name, outcome);
        let counts =
            SchemeCounts { accepted: count("accepted"), refused: count("refused"), undecided: count("undecided") };
        Ok(Scheme { name: Arc::clone(name), verifier, counts })
    }

    fn key_store(&self, scheme: &Arc<str>, keys: &JwtKeys) -> Result<Arc<KeyStore>, Mistake> {
        let store = match keys {
            JwtKeys::Fetched(set) => {
                let fetches = self.metrics.auth.key_set_fetches.clone();
                KeyStore::fetched(Arc::clone(scheme), set.clone(), self.client.clone(), fetches)
            }
            JwtKeys::File(file) => {
                let read = std::fs::read(&file.value).map_err(|error| error.to_string());
                let parsed = read.and_then(|json| jwks::parse(&json).map_err(|error| error.to_string()));
                KeyStore::fixed(parsed.map_err(|error| in_file(file, &error))?)
            }
            JwtKeys::Shared(reference) => {
                let secret = secret(reference)?;
                if secret.expose().len() < SHARED_SECRET_BYTES_MIN {
                    let message =
                        format!("a shared secret has {SHARED_SECRET_BYTES_MIN} bytes at least (RFC 7518 §3.2)");
                    return Err(at(reference, message));
                }
                KeyStore::fixed(vec![Arc::new(Key::shared(secret.expose()))])
            }
        };
        Ok(Arc::new(store))
    }

    fn key_source(&self, scheme: &Arc<str>, source: &checked::KeySource) -> Result<KeySource, Mistake> {
        Ok(match source {
            checked::KeySource::Introspection(introspection) => {
                // What the backend answers: see `common::claims::Introspection`.
                let claims = ClaimNames {
                    subject: "sub".into(),
                    permissions: vec!["scope".into()],
                    roles: vec!["roles".into()],
                    required: Vec::new(),
                };
                KeySource::Introspection(Box::new(self.introspector(
                    scheme,
                    introspection,
                    Method::ApiKey,
                    None,
                    &claims,
                )?))
            }
            checked::KeySource::File(file) => {
                let keys = FileKeys::read(&file.value);
                KeySource::File(keys.map_err(|report| at(file, report.to_string()))?)
            }
            checked::KeySource::Redis(settings) => match self.store {
                Some(store) => {
                    let lookups = self.metrics.auth.key_lookups.clone();
                    KeySource::Redis(RedisKeySource::new(Arc::clone(scheme), settings, Arc::clone(store), lookups))
                }
                // The configuration was checked for it.
                None => KeySource::File(FileKeys::none()),
            },
        })
    }

    fn introspector(
        &self,
        scheme: &Arc<str>,
        settings: &Introspection,
        method: Method,
        audience: Option<String>,
        claims: &ClaimNames,
    ) -> Result<Introspector, Mistake> {
        let tools = Tools {
            scheme: Arc::clone(scheme),
            method,
            secret: settings.secret.as_ref().map(secret).transpose()?,
            audience,
            reader: Reader::new(claims, &self.kept),
            client: self.client.clone(),
            lookups: self.metrics.auth.key_lookups.clone(),
        };
        Ok(Introspector::new(settings, tools))
    }
}

/// Which kinds of bearer tokens a route with these schemes takes.
pub(crate) fn bearers(schemes: &[Arc<Scheme>]) -> Bearers {
    let mut bearers = Bearers::default();
    for scheme in schemes {
        match &scheme.verifier {
            Verifier::Jwt(_) => bearers.signed += 1,
            Verifier::ApiKey(_, as_bearer) => bearers.keys |= as_bearer,
            Verifier::Opaque(_) => bearers.opaque = true,
            Verifier::Basic(_) | Verifier::Forward(_) | Verifier::Certificate(_) => {}
        }
    }
    bearers
}

/// Reads a secret.
///
/// # Errors
/// Where it is said to be, and why it cannot be read there.
pub(crate) fn secret(reference: &At<SecretRef>) -> Result<Secret, Mistake> {
    reference.value.resolve().map_err(|error| at(reference, error.to_string()))
}

fn in_file(file: &At<PathBuf>, error: &str) -> Mistake {
    at(file, format!("{}: {error}", file.value.display()))
}

fn at<T>(place: &At<T>, message: String) -> Mistake {
    Mistake { position: place.position, path: place.path.clone(), message }
}
