//! JWT: a bearer token in, an identity out.
//!
//! The algorithm comes from the key and from the configuration, never from the token alone (RFC 8725 §3.1). Signature and
//! registered claims are checked by the jsonwebtoken crate; what stands around them is checked here: type, critical
//! headers, key id, subject. Verified tokens are remembered by hash until they expire or the key set changes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::code::Code;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;

use super::claims::{ClaimWrong, Claims, Reader};
use super::credential::{Places, hash};
use super::identity::{Identity, Method};
use super::jwks::{Key, KeyStore, Lookup};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::config::checked::{Jwt, TokenAlgorithm};
use crate::stages::context::Now;

/// The longest token that is looked at, in bytes. Larger ones do not fit most servers' header limits anyway.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Checks tokens of one issuer.
#[derive(Debug)]
pub(crate) struct JwtVerifier {
    keys: Arc<KeyStore>,
    algorithms: Box<[Algorithm]>,
    token_type: Option<String>,
    issuer: String,
    audience: String,
    leeway_seconds: u64,
    reader: Reader,
    places: Places,
    verified: moka::sync::Cache<[u8; 32], Verified, ahash::RandomState>,
}

/// A token that was good when it was looked at.
#[derive(Clone, Debug)]
struct Verified {
    identity: Arc<Identity>,
    expires_unix_seconds: u64,
    /// The key set it was checked with: another one may have withdrawn the key.
    key_set: u64,
}

/// The header of a token, as far as it matters (RFC 7515 §4.1).
#[derive(Deserialize)]
pub(crate) struct Header {
    pub alg: String,
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// Extensions that must be understood: none are.
    crit: Option<serde_json::Value>,
}

impl JwtVerifier {
    /// `kept` are the claims that limits and rules ask for later.
    pub(crate) fn new(jwt: &Jwt, keys: Arc<KeyStore>, kept: &Arc<[Arc<str>]>) -> Self {
        Self {
            keys,
            reader: Reader::new(&jwt.claims, kept),
            places: Places {
                cookie: jwt.cookie.as_deref().map(Box::from),
                query: jwt.query.as_deref().map(Box::from),
                websocket_protocol: jwt.websocket_protocol,
            },
            algorithms: jwt.algorithms.iter().map(|algorithm| algorithm_of(*algorithm)).collect(),
            token_type: jwt.token_type.clone(),
            issuer: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
            leeway_seconds: jwt.leeway.as_secs(),
            verified: moka::sync::Cache::builder()
                .max_capacity(jwt.cache_max.into())
                .build_with_hasher(ahash::RandomState::new()),
        }
    }

    /// The keys it checks with.
    pub(crate) fn keys(&self) -> &Arc<KeyStore> {
        &self.keys
    }

    /// Where a token may stand.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Whose token these claims would be, were they signed; `None` for another issuer's. Signature, audience and times are
    /// taken to be good.
    pub(super) fn assume(&self, claims: &Claims) -> Option<Result<Identity, ClaimWrong>> {
        match claims.text("iss") {
            Ok(Some(issuer)) if issuer != self.issuer => None,
            _ => Some(self.reader.identity(claims, Method::Jwt)),
        }
    }

    /// Whether the token says that it is of this scheme's issuer. Nothing is believed by that; it chooses who judges.
    pub(super) fn is_issuer_of(&self, token: &str) -> bool {
        #[derive(Deserialize)]
        struct Issued {
            iss: String,
        }
        if token.len() > TOKEN_BYTES_MAX {
            return false;
        }
        let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let issued = payload.and_then(|json| serde_json::from_slice::<Issued>(&json).ok());
        issued.is_some_and(|issued| issued.iss == self.issuer)
    }

    /// Checks a token.
    ///
    /// # Errors
    /// 401 with the reason, or 503 when the key set was never fetched.
    pub(crate) async fn verify(&self, token: &str, now: Now) -> Result<Arc<Identity>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refusal(Code::TokenMalformed));
        }
        let hash = hash(token);
        if let Some(known) = self.verified.get(&hash) {
            let fresh = now.unix_seconds < known.expires_unix_seconds.saturating_add(self.leeway_seconds);
            if fresh && known.key_set == self.keys.generation() {
                return Ok(known.identity);
            }
        }
        let key_set = self.keys.generation();
        let (identity, expires_unix_seconds) = self.check(token, now).await?;
        let known = Verified { identity: Arc::clone(&identity), expires_unix_seconds, key_set };
        self.verified.insert(hash, known);
        Ok(identity)
    }

    async fn check(&self, token: &str, now: Now) -> Result<(Arc<Identity>, u64), Refusal> {
        let header = read_header(token).ok_or_else(|| refusal(Code::TokenMalformed))?;
        if header.crit.is_some() {
            return Err(refusal(Code::TokenMalformed).detail("a critical header extension is not understood"));
        }
        let algorithm = self.allowed_algorithm(&header.alg).ok_or_else(|| refusal(Code::TokenAlgorithmInvalid))?;
        if !self.type_fits(header.typ.as_deref()) {
            return Err(refusal(Code::TokenTypeInvalid));
        }
        let key = match self.keys.find(header.kid.as_deref(), algorithm).await {
            Lookup::Found(key) => key,
            Lookup::OtherAlgorithm => return Err(refusal(Code::TokenAlgorithmInvalid)),
            Lookup::Unknown => return Err(refusal(Code::TokenKeyUnknown)),
            Lookup::NeverFetched => return Err(Refusal::new(Code::KeySetUnavailable)),
        };
        let claims = self.check_claims(token, &key, algorithm)?;
        let wrong = |_| refusal(Code::TokenClaimInvalid);
        let issued = claims.seconds("iat").map_err(wrong)?;
        if issued.is_some_and(|issued| issued > now.unix_seconds.saturating_add(self.leeway_seconds)) {
            return Err(refusal(Code::TokenNotYetValid));
        }
        let expires = claims.seconds("exp").map_err(wrong)?.ok_or_else(|| refusal(Code::TokenClaimInvalid))?;
        let identity = self.reader.identity(&claims, Method::Jwt).map_err(wrong)?;
        Ok((Arc::new(identity), expires))
    }

    fn allowed_algorithm(&self, name: &str) -> Option<Algorithm> {
        let algorithm = name.parse().ok()?;
        self.algorithms.contains(&algorithm).then_some(algorithm)
    }

    /// `at+jwt` and `application/at+jwt` are the same type (RFC 9068 §4).
    fn type_fits(&self, sent: Option<&str>) -> bool {
        let Some(wanted) = self.token_type.as_deref() else { return true };
        let sent = sent.unwrap_or("");
        let short =
            sent.get(..12).filter(|prefix| prefix.eq_ignore_ascii_case("application/")).map_or(sent, |_| &sent[12..]);
        short.eq_ignore_ascii_case(wanted)
    }

    fn check_claims(&self, token: &str, key: &Key, algorithm: Algorithm) -> Result<Claims, Refusal> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway_seconds;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let checked = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation);
        checked.map(|token| token.claims).map_err(|error| refusal(code_of(error.kind())))
    }
}

pub(super) fn refusal(code: Code) -> Refusal {
    Refusal::new(code).advice(Advice::Authenticate(vec![Challenge::BearerInvalid]))
}

/// The header of a token with three parts; `None` for anything else.
pub(crate) fn read_header(token: &str) -> Option<Header> {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

fn code_of(error: &ErrorKind) -> Code {
    match error {
        ErrorKind::InvalidSignature => Code::TokenSignatureInvalid,
        ErrorKind::ExpiredSignature => Code::TokenExpired,
        ErrorKind::ImmatureSignature => Code::TokenNotYetValid,
        ErrorKind::InvalidIssuer => Code::TokenIssuerInvalid,
        ErrorKind::InvalidAudience => Code::TokenAudienceInvalid,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            Code::TokenAlgorithmInvalid
        }
        // The signature was good by then, so it is the claims that do not have their form.
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::InvalidSubject
        | ErrorKind::Json(_) => Code::TokenClaimInvalid,
        _ => Code::TokenMalformed,
    }
}

/// The same algorithm in the crate's terms.
pub(super) fn algorithm_of(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Es384 => Algorithm::ES384,
        TokenAlgorithm::Rs256 => Algorithm::RS256,
        TokenAlgorithm::Ps256 => Algorithm::PS256,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Hs256 => Algorithm::HS256,
    }
}
