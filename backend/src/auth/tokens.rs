//! Tokens: short-lived access tokens (RFC 9068), issued and verified.
//!
//! For: what a login gives and every later request shows. May touch: the clock and the keys of `jwks.rs`, which `keyring.rs` changes.
//! Promises: the algorithm comes from our keys and never from the token; a token over `TOKEN_BYTES_MAX` is not looked at;
//! each way to fail has a name of its own. Read next: `caller.rs`.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::access::{Role, scope_of};
use common::claims::{ACCESS_TOKEN_TYPE, AccessClaims};
use common::clock::Clock;
use common::secret::Secret;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use serde::Deserialize;

use super::jwks::{ALGORITHM, SigningKeys};
use super::withdrawals::Withdrawn;
use super::{AuthError, Caller, Method, Withdrawals};
use crate::base::ids;

/// The longest access token that is looked at, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How far in the future `iat` may lie, in seconds: other processes' clocks are not exactly ours.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// The `client_id` of tokens that the login form gives.
const CLIENT_ID: &str = "capibara6";

/// Why a token does not hold.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT in compact form, too long, or with critical extensions we do not know.
    #[error("not a well-formed JWT")]
    Malformed,
    /// `alg` is not ES256.
    #[error("the algorithm is not allowed")]
    AlgorithmInvalid,
    /// `typ` is not that of an access token.
    #[error("not an access token")]
    TypeInvalid,
    /// `kid` names none of our keys.
    #[error("the key is unknown")]
    KeyUnknown,
    /// The signature does not fit.
    #[error("the signature is wrong")]
    SignatureInvalid,
    /// `exp` has passed.
    #[error("expired")]
    Expired,
    /// `iat` lies in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// It was withdrawn before its end.
    #[error("withdrawn")]
    Revoked,
    /// `iss` is not ours.
    #[error("another issuer")]
    IssuerInvalid,
    /// `aud` is not ours.
    #[error("another audience")]
    AudienceInvalid,
    /// A claim is missing or of the wrong kind.
    #[error("a claim is missing or wrong")]
    ClaimInvalid,
}

/// Issues and verifies access tokens.
pub struct Tokens {
    keys: RwLock<Arc<SigningKeys>>,
    validation: Validation,
    issuer: String,
    audience: String,
    ttl_seconds: u64,
    withdrawn: Arc<Withdrawn>,
    clock: Arc<dyn Clock>,
}

/// A token that holds, or was withdrawn.
pub(super) struct Shown {
    /// Its own id.
    pub(super) id: String,
    /// Whose it is.
    pub(super) subject: String,
    /// When it ends, in seconds of the Unix epoch.
    pub(super) ends: u64,
}

/// The part of a token's header that decides how it is verified.
#[derive(Deserialize)]
struct LooseHeader {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Tokens {
    /// `ttl` is how long a token holds.
    #[must_use]
    pub fn new(keys: SigningKeys, issuer: String, audience: String, ttl: Duration, clock: Arc<dyn Clock>) -> Self {
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[&audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are ours to judge, by our clock.
        validation.validate_exp = false;
        let withdrawn = Arc::default();
        let keys = RwLock::new(Arc::new(keys));
        Self { keys, validation, issuer, audience, ttl_seconds: ttl.as_secs(), withdrawn, clock }
    }

    /// Refuses what these know to be withdrawn.
    #[must_use]
    pub fn heeding(self, withdrawals: &Withdrawals) -> Self {
        Self { withdrawn: withdrawals.known(), ..self }
    }

    /// The keys of this moment.
    #[must_use]
    pub fn keys(&self) -> Arc<SigningKeys> {
        // A pointer is sound whoever panicked while holding it.
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs and verifies with these keys from now on.
    pub fn use_keys(&self, keys: SigningKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// How long a token holds, in seconds.
    #[must_use]
    pub fn ttl_seconds(&self) -> u64 {
        self.ttl_seconds
    }

    /// A new token for a user, issued at that second: before the role was read, so that a change of the user which comes
    /// later withdraws it too.
    ///
    /// # Errors
    /// `AuthError::Signing` when the key fails.
    pub fn issue(&self, user_id: &str, role: Role, issued_at: u64) -> Result<Secret, AuthError> {
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user_id.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            iat: issued_at,
            exp: issued_at.saturating_add(self.ttl_seconds),
            jti: ids::new_id(),
            scope: scope_of(role.permissions()),
            roles: vec![role.as_str().to_owned()],
        };
        let keys = self.keys();
        let (id, key) = keys.signing();
        let mut header = Header::new(ALGORITHM);
        header.typ = Some(ACCESS_TOKEN_TYPE.to_owned());
        header.kid = Some(id.to_owned());
        jsonwebtoken::encode(&header, &claims, key).map(Secret::new).map_err(AuthError::Signing)
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let claims = self.read(token)?;
        if self.withdrawn.holds(&claims) {
            return Err(TokenError::Revoked);
        }
        Ok(caller_of(claims))
    }

    /// Which token this is, whether it was withdrawn or not; `None` for one that does not hold anyway.
    pub(super) fn shown(&self, token: &str) -> Option<Shown> {
        let claims = self.read(token).ok()?;
        Some(Shown { id: claims.jti, subject: claims.sub, ends: claims.exp })
    }

    /// What a token says, once it is known to be ours and in its time.
    fn read(&self, token: &str) -> Result<AccessClaims, TokenError> {
        let header = read_header(token)?;
        if header.alg != "ES256" {
            return Err(TokenError::AlgorithmInvalid);
        }
        if !header.typ.as_deref().is_some_and(is_access_token_type) {
            return Err(TokenError::TypeInvalid);
        }
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let keys = self.keys();
        let key = header.kid.as_deref().and_then(|id| keys.verifying(id)).ok_or(TokenError::KeyUnknown)?;
        let verified = jsonwebtoken::decode::<AccessClaims>(token, key, &self.validation)
            .map_err(|error| refusal(error.kind()))?;
        self.check_times(&verified.claims)?;
        Ok(verified.claims)
    }

    fn check_times(&self, claims: &AccessClaims) -> Result<(), TokenError> {
        let now = self.clock.unix_seconds();
        if now >= claims.exp {
            return Err(TokenError::Expired);
        }
        if claims.iat > now.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

fn read_header(token: &str) -> Result<LooseHeader, TokenError> {
    if token.len() > TOKEN_BYTES_MAX || token.split('.').count() != 3 {
        return Err(TokenError::Malformed);
    }
    let encoded = token.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

/// With or without `application/` before it (RFC 9068 §4).
fn is_access_token_type(typ: &str) -> bool {
    let bare = match typ.split_once('/') {
        Some((kind, rest)) if kind.eq_ignore_ascii_case("application") => rest,
        _ => typ,
    };
    bare.eq_ignore_ascii_case(ACCESS_TOKEN_TYPE)
}

fn refusal(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::SignatureInvalid,
        ErrorKind::InvalidAlgorithm => TokenError::AlgorithmInvalid,
        ErrorKind::InvalidIssuer => TokenError::IssuerInvalid,
        ErrorKind::InvalidAudience => TokenError::AudienceInvalid,
        // The header was read before, so what is not JSON here is the claim set of a token we signed or not.
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            TokenError::ClaimInvalid
        }
        _ => TokenError::Malformed,
    }
}

/// Words that this release does not know grant nothing.
fn caller_of(claims: AccessClaims) -> Caller {
    Caller {
        permissions: claims.scope.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect(),
        subject: claims.sub,
        roles: claims.roles,
        method: Method::Jwt,
        key_id: None,
        key_ends_at: None,
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
