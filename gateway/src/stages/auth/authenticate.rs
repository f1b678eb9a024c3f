//! Authenticate: the route's schemes in their stated order; the first whose credential was sent decides.

use std::sync::Arc;

use common::code::Code;
use http::HeaderName;
use prometheus::IntCounter;

use super::api_key::{self, ApiKeyVerifier};
use super::basic::BasicVerifier;
use super::certificate::CertificateVerifier;
use super::credential::{self, Bearers, Credential};
use super::forward::ForwardVerifier;
use super::identity::{Identity, Method};
use super::introspect::Introspector;
use super::jwks::KeyStore;
use super::jwt::{self, JwtVerifier};
use super::revocations::Revocations;
use crate::base::head::Head;
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::stages::admission::address::Client;
use crate::stages::context::Now;
use crate::stages::plan::Route;

/// One way to prove who one is, by its name in the configuration.
#[derive(Debug)]
pub(crate) struct Scheme {
    pub name: Arc<str>,
    pub verifier: Verifier,
    pub counts: SchemeCounts,
}

/// What became of the credentials of a scheme.
#[derive(Debug)]
pub(crate) struct SchemeCounts {
    pub accepted: IntCounter,
    pub refused: IntCounter,
    /// Nobody could say.
    pub undecided: IntCounter,
}

/// What checks the credentials of a scheme.
#[derive(Debug)]
pub(crate) enum Verifier {
    Jwt(Box<JwtVerifier>),
    /// Also as a bearer token, where it says so.
    ApiKey(Box<ApiKeyVerifier>, bool),
    Opaque(Box<Introspector>),
    Basic(Box<BasicVerifier>),
    Forward(Box<ForwardVerifier>),
    Certificate(CertificateVerifier),
}

/// Who sent this request? `None` on public routes, where credentials are not even looked at. `tried` are the schemes whose
/// credential was there, when none of them was good.
///
/// # Errors
/// 401 when no credential was sent or the one that was is not good, 503 when it cannot be checked.
pub(crate) async fn identify(
    head: &Head<'_>,
    client: Client,
    route: &Route,
    revocations: &Revocations,
    now: Now,
    tried: &mut Vec<Arc<str>>,
) -> Result<Option<Arc<Identity>>, Refusal> {
    let mut of_others = None;
    for scheme in &route.schemes {
        let credential = scheme.read(head, route.bearers);
        if credential == Credential::Absent {
            continue;
        }
        let outcome = scheme.judge(credential, head, client, route, now).await;
        let outcome = outcome.and_then(|identity| match identity {
            Some(identity) if revocations.refuse(&identity, now) => Err(withdrawn(&identity)),
            identity => Ok(identity),
        });
        if matches!(&outcome, Ok(Some(_))) {
            scheme.counts.accepted.inc();
            return outcome;
        }
        tried.push(Arc::clone(&scheme.name));
        match outcome {
            // Of another issuer: one of the next may know it.
            Ok(_) => {
                of_others.get_or_insert(Arc::clone(&scheme.name));
            }
            Err(refusal) => {
                scheme.counts.count(&refusal);
                return Err(refusal.policy(&scheme.name));
            }
        }
    }
    let Some(first) = route.schemes.first() else { return Ok(None) };
    match of_others {
        Some(scheme) => Err(jwt::refusal(Code::TokenIssuerInvalid).policy(&scheme)),
        None => Err(missing(route).policy(&first.name)),
    }
}

/// What is said to whoever has sent nothing: one challenge for each kind of credential that the route takes (RFC 9110 §11.6.1).
pub(super) fn missing(route: &Route) -> Refusal {
    let any = |wanted: fn(&Verifier) -> bool| route.schemes.iter().any(|scheme| wanted(&scheme.verifier));
    let code = if any(|verifier| matches!(verifier, Verifier::Jwt(_) | Verifier::Opaque(_))) {
        Code::TokenMissing
    } else if any(|verifier| matches!(verifier, Verifier::ApiKey(..))) {
        Code::KeyMissing
    } else if any(|verifier| matches!(verifier, Verifier::Certificate(_))) {
        Code::CertificateMissing
    } else {
        Code::CredentialMissing
    };
    Refusal::new(code).advice(challenges(route))
}

fn challenges(route: &Route) -> Advice {
    let mut challenges: Vec<Challenge> = Vec::new();
    for scheme in &route.schemes {
        let challenge = match &scheme.verifier {
            Verifier::Jwt(_) | Verifier::Opaque(_) => Challenge::Bearer,
            Verifier::ApiKey(..) => Challenge::ApiKey,
            Verifier::Basic(users) => users.challenge(),
            Verifier::Forward(_) | Verifier::Certificate(_) => continue,
        };
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    Advice::Authenticate(challenges)
}

/// What is said of a credential that was good and is no more.
fn withdrawn(identity: &Identity) -> Refusal {
    match identity.method {
        Method::ApiKey => api_key::invalid(),
        _ => jwt::refusal(Code::TokenRevoked),
    }
}

impl SchemeCounts {
    fn count(&self, refusal: &Refusal) {
        let counter = if refusal.code.status() >= 500 { &self.undecided } else { &self.refused };
        counter.inc();
    }
}

impl Scheme {
    /// The keys of a scheme that checks signatures.
    pub(crate) fn key_store(&self) -> Option<&Arc<KeyStore>> {
        match &self.verifier {
            Verifier::Jwt(tokens) => Some(tokens.keys()),
            _ => None,
        }
    }

    /// The query parameter that may carry its credential.
    pub(crate) fn query_parameter(&self) -> Option<&str> {
        match &self.verifier {
            Verifier::Jwt(tokens) => tokens.places().query.as_deref(),
            _ => None,
        }
    }

    /// Whether its credential may stand among the protocols of a WebSocket.
    pub(crate) fn takes_protocol_token(&self) -> bool {
        matches!(&self.verifier, Verifier::Jwt(tokens) if tokens.places().websocket_protocol)
    }

    /// The headers that only it may set on a request.
    pub(crate) fn copied(&self) -> &[HeaderName] {
        match &self.verifier {
            Verifier::Forward(service) => service.copied(),
            _ => &[],
        }
    }

    pub(super) fn read<'a>(&self, head: &Head<'a>, bearers: Bearers) -> Credential<'a> {
        match &self.verifier {
            Verifier::Jwt(tokens) => credential::signed(head, tokens.places(), bearers),
            Verifier::ApiKey(keys, as_bearer) => credential::api_key(head, keys.header(), *as_bearer),
            Verifier::Opaque(_) => credential::opaque(head, bearers),
            Verifier::Basic(_) => credential::basic(head),
            Verifier::Forward(_) => Credential::Request,
            Verifier::Certificate(_) => head.client_certificate.map_or(Credential::Absent, Credential::Certificate),
        }
    }

    /// Whether a credential is of another issuer, of which the route knows several.
    pub(super) fn passes_over(&self, credential: Credential<'_>, route: &Route) -> bool {
        match (&self.verifier, credential) {
            (Verifier::Jwt(tokens), Credential::Sent(token)) => {
                route.bearers.signed > 1 && !tokens.is_issuer_of(token)
            }
            _ => false,
        }
    }

    /// Whose it is; `None` when it is for another scheme of the route to say.
    async fn judge(
        &self,
        credential: Credential<'_>,
        head: &Head<'_>,
        client: Client,
        route: &Route,
        now: Now,
    ) -> Result<Option<Arc<Identity>>, Refusal> {
        match (&self.verifier, credential) {
            (_, Credential::Ambiguous) => Err(Refusal::new(Code::CredentialAmbiguous).advice(challenges(route))),
            (Verifier::Jwt(tokens), Credential::Sent(token)) => {
                if self.passes_over(credential, route) {
                    return Ok(None);
                }
                tokens.verify(token, now).await.map(Some)
            }
            (Verifier::ApiKey(keys, _), Credential::Sent(key)) => keys.verify(key, now).await.map(Some),
            (Verifier::Opaque(tokens), Credential::Sent(token)) => {
                let known = tokens.identify(token, now).await?;
                known.map(Some).ok_or_else(|| jwt::refusal(Code::TokenInactive))
            }
            (Verifier::Basic(users), Credential::Sent(credential)) => users.verify(credential).await.map(Some),
            (Verifier::Forward(service), Credential::Request) => service.verify(head, client).await.map(Some),
            (Verifier::Certificate(certificates), Credential::Certificate(shown)) => {
                certificates.verify(shown).map(Some)
            }
            // A scheme reads credentials of its own kind only.
            _ => Err(Refusal::new(Code::InternalError)),
        }
    }
}
