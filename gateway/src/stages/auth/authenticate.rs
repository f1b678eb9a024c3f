//! Authenticate: the route's schemes in their stated order; the first whose credential was sent decides.

use std::sync::Arc;

use common::code::Code;
use http::header::AUTHORIZATION;

use super::api_key::ApiKeyVerifier;
use super::identity::Identity;
use super::jwks::KeyStore;
use super::jwt::JwtVerifier;
use crate::base::head::{Head, Occurrence};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::stages::context::Now;
use crate::stages::plan::Route;

/// One way to prove who one is, by its name in the configuration.
#[derive(Debug)]
pub(crate) struct Scheme {
    pub name: Arc<str>,
    pub verifier: Verifier,
}

/// What checks the credentials of a scheme.
#[derive(Debug)]
pub(crate) enum Verifier {
    Jwt(JwtVerifier),
    ApiKey(ApiKeyVerifier),
}

/// A credential as it was sent.
enum Credential<'a> {
    Absent,
    Ambiguous,
    Sent(&'a str),
}

/// Who sent this request? `None` on public routes, where credentials are not even looked at.
///
/// # Errors
/// 401 when no credential was sent or the one that was is not good, 503 when it cannot be checked.
pub(crate) async fn identify(head: &Head<'_>, route: &Route, now: Now) -> Result<Option<Arc<Identity>>, Refusal> {
    for scheme in &route.schemes {
        let refused = match scheme.read(head) {
            Credential::Absent => continue,
            Credential::Ambiguous => Refusal::new(Code::CredentialAmbiguous).advice(challenges(route)),
            Credential::Sent(credential) => match scheme.verify(credential, now).await {
                Ok(identity) => return Ok(Some(identity)),
                Err(refusal) => refusal,
            },
        };
        return Err(refused.policy(&scheme.name));
    }
    let Some(first) = route.schemes.first() else { return Ok(None) };
    let takes_tokens = route.schemes.iter().any(|scheme| matches!(scheme.verifier, Verifier::Jwt(_)));
    let code = if takes_tokens { Code::TokenMissing } else { Code::KeyMissing };
    Err(Refusal::new(code).policy(&first.name).advice(challenges(route)))
}

/// One challenge for each kind of credential that the route takes (RFC 9110 §11.6.1).
fn challenges(route: &Route) -> Advice {
    let kinds = route.schemes.iter().map(|scheme| match scheme.verifier {
        Verifier::Jwt(_) => Challenge::Bearer,
        Verifier::ApiKey(_) => Challenge::ApiKey,
    });
    Advice::Authenticate(kinds.collect())
}

impl Scheme {
    /// The keys of a scheme that checks signatures.
    pub(crate) fn key_store(&self) -> Option<&Arc<KeyStore>> {
        match &self.verifier {
            Verifier::Jwt(tokens) => Some(tokens.keys()),
            Verifier::ApiKey(_) => None,
        }
    }

    fn read<'a>(&self, head: &Head<'a>) -> Credential<'a> {
        match &self.verifier {
            Verifier::Jwt(_) => match head.single(&AUTHORIZATION) {
                Occurrence::Absent => Credential::Absent,
                Occurrence::Repeated => Credential::Ambiguous,
                // Another scheme's credential in the same header is not ours to judge.
                Occurrence::Once(value) => {
                    value.to_str().ok().and_then(bearer).map_or(Credential::Absent, Credential::Sent)
                }
            },
            Verifier::ApiKey(keys) => match head.single(keys.header()) {
                Occurrence::Absent => Credential::Absent,
                Occurrence::Repeated => Credential::Ambiguous,
                Occurrence::Once(value) => Credential::Sent(value.to_str().unwrap_or("")),
            },
        }
    }

    async fn verify(&self, credential: &str, now: Now) -> Result<Arc<Identity>, Refusal> {
        match &self.verifier {
            Verifier::Jwt(tokens) => tokens.verify(credential, now).await,
            Verifier::ApiKey(keys) => keys.verify(credential, now).await,
        }
    }
}

/// The token behind `Bearer`, whose name is not case-sensitive (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}
