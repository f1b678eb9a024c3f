//! Rehearse: what the schemes of a route make of a request that nobody has sent.
//!
//! For: `gateway explain` and `gateway test`. May touch: the schemes; nobody is asked here. Promises: what is found is what
//! `authenticate` would find; a caller who is only assumed has what the scheme would have read from the same claims, and never
//! meets a request that was really sent. Read next: `authenticate.rs`.

use std::fmt::Write as _;
use std::sync::Arc;

use common::api_key::ApiKey;
use common::code::Code;

use super::api_key::KeySource;
use super::authenticate::{Scheme, Verifier, missing};
use super::claims::{ClaimWrong, Claims};
use super::credential::Credential;
use super::identity::{Identity, Method, Proof};
use super::jwt;
use crate::base::head::Head;
use crate::base::refusal::Refusal;
use crate::stages::plan::Route;

/// Whom a scheme has to ask before it can judge a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Nobody: everything is at hand.
    Nobody,
    /// The issuer, for keys that were never fetched.
    Issuer,
    /// A source of credentials or a service, about this very request.
    Service,
    /// The store that gateways share.
    Store,
}

/// What a scheme finds in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing that it takes.
    Nothing,
    /// A token of another issuer, which one of the next may know.
    OfAnother,
    /// A credential, or more than one: it decides.
    Credential,
}

/// A scheme's look at a request.
#[derive(Debug)]
pub(crate) struct Look<'r> {
    pub scheme: &'r Arc<Scheme>,
    pub found: Found,
    pub asks: Asks,
}

/// A caller who needs no credential.
#[derive(Debug)]
pub(crate) enum Sender {
    /// Whoever a token with these claims would speak of.
    Claims(Claims),
    /// Somebody of this name.
    Known { subject: String, permissions: Vec<String>, roles: Vec<String> },
}

impl Sender {
    /// Whoever a token with these claims would speak of.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub(crate) fn of_claims(json: &str) -> Result<Self, String> {
        let claims = serde_json::from_str(json);
        claims.map(Self::Claims).map_err(|error| format!("the claims are not a JSON object: {error}"))
    }
}

/// What each scheme of a route finds, in the order in which they are tried. The first that finds a credential decides.
pub(crate) fn look<'r>(head: &Head<'_>, route: &'r Route) -> Vec<Look<'r>> {
    let looks = route.schemes.iter().map(|scheme| {
        let credential = scheme.read(head, route.bearers);
        let found = match credential {
            Credential::Absent => Found::Nothing,
            credential if scheme.passes_over(credential, route) => Found::OfAnother,
            _ => Found::Credential,
        };
        Look { scheme, found, asks: asks(&scheme.verifier, credential) }
    });
    looks.collect()
}

fn asks(verifier: &Verifier, credential: Credential<'_>) -> Asks {
    if credential == Credential::Ambiguous {
        return Asks::Nobody;
    }
    match verifier {
        Verifier::Basic(_) | Verifier::Certificate(_) => Asks::Nobody,
        Verifier::Jwt(tokens) if tokens.keys().is_ready() => Asks::Nobody,
        Verifier::Jwt(_) => Asks::Issuer,
        Verifier::Opaque(_) | Verifier::Forward(_) => Asks::Service,
        Verifier::ApiKey(keys, _) => match (credential, keys.source()) {
            // What does not even look like a key is refused without a question.
            (Credential::Sent(key), _) if ApiKey::parse(key).is_err() => Asks::Nobody,
            (_, KeySource::File(_)) => Asks::Nobody,
            (_, KeySource::Introspection(_)) => Asks::Service,
            (_, KeySource::Redis(_)) => Asks::Store,
        },
    }
}

/// Who is assumed to have sent a request to this route; `None` on a public one, where nobody is asked.
///
/// # Errors
/// 401 when the route takes nothing of that kind, or claims are missing or wrong.
pub(crate) fn assume(route: &Route, sender: &Sender) -> Result<Option<Arc<Identity>>, Refusal> {
    let Some(first) = route.schemes.first() else { return Ok(None) };
    let identity = match sender {
        Sender::Claims(claims) => of_claims(route, claims)?,
        Sender::Known { subject, permissions, roles } => {
            let permissions: Vec<&str> = permissions.iter().map(String::as_str).collect();
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            let proof = Proof { subject, permissions: &permissions, roles: &roles, ..Proof::default() };
            let identity = Identity::new(first.method(), proof);
            identity.ok_or_else(|| {
                jwt::refusal(Code::TokenClaimInvalid)
                    .policy(&first.name)
                    .detail("the caller has no usable name or rights")
            })?
        }
    };
    Ok(Some(Arc::new(identity)))
}

/// Claims are read by the first scheme that would take a token with them.
fn of_claims(route: &Route, claims: &Claims) -> Result<Identity, Refusal> {
    let mut of_others = None;
    for scheme in &route.schemes {
        let read = match &scheme.verifier {
            Verifier::Jwt(tokens) => tokens.assume(claims),
            Verifier::Opaque(tokens) => Some(tokens.assume(claims)),
            _ => continue,
        };
        match read {
            Some(read) => {
                return read.map_err(|ClaimWrong| jwt::refusal(Code::TokenClaimInvalid).policy(&scheme.name));
            }
            None => {
                of_others.get_or_insert(&scheme.name);
            }
        }
    }
    Err(match of_others {
        Some(scheme) => jwt::refusal(Code::TokenIssuerInvalid).policy(scheme),
        None => missing(route).detail("the route takes no tokens, so claims say nothing here"),
    })
}

impl Scheme {
    /// What it takes, for people.
    pub(crate) fn takes(&self) -> String {
        match &self.verifier {
            Verifier::Jwt(tokens) => {
                let places = tokens.places();
                let mut text = "a signed token in Authorization: Bearer".to_owned();
                // Writing to a String cannot fail.
                if let Some(cookie) = &places.cookie {
                    let _ = write!(text, ", in the cookie {cookie}");
                }
                if let Some(parameter) = &places.query {
                    let _ = write!(text, ", in the query parameter {parameter}");
                }
                if places.websocket_protocol {
                    text.push_str(", among the protocols of a WebSocket");
                }
                text
            }
            Verifier::ApiKey(keys, as_bearer) => {
                let bearer = if *as_bearer { ", or in Authorization: Bearer" } else { "" };
                format!("an API key in {}{bearer}", keys.header())
            }
            Verifier::Opaque(_) => "a token in Authorization: Bearer that its issuer is asked about".to_owned(),
            Verifier::Basic(_) => "user name and password in Authorization: Basic".to_owned(),
            Verifier::Forward(_) => "whatever the request holds; a service is asked about it".to_owned(),
            Verifier::Certificate(_) => "a client certificate".to_owned(),
        }
    }

    /// How it proves who somebody is.
    fn method(&self) -> Method {
        match &self.verifier {
            Verifier::Jwt(_) => Method::Jwt,
            Verifier::ApiKey(..) => Method::ApiKey,
            Verifier::Opaque(_) => Method::Introspection,
            Verifier::Basic(_) => Method::Basic,
            Verifier::Forward(_) => Method::Forward,
            Verifier::Certificate(_) => Method::Certificate,
        }
    }
}
