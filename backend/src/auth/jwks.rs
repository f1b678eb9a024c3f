//! JWKS: the keys that sign access tokens, and the public halves that everybody may have.
//!
//! For: signing with the first key, verifying with any, publishing all (RFC 7517). May touch: nothing; which keys these
//! are at a time is the affair of `keyring.rs`.
//! Promises: only P-256 keys and ES256; private keys never print; the development key is known to the whole world and is
//! told apart, so that production can refuse it.
//! Read next: `tokens.rs`.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use crate::config::SigningKeySource;

/// The `kid` of the development key.
pub const DEVELOPMENT_KEY_ID: &str = "development";

/// Signs tokens where nobody configured a key, in development only. It is public: whoever reads this file can sign.
const DEVELOPMENT_KEY_PEM: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgb8gluqtr3gJcM4d7
74w4TSoQJ5+qTEwHHL1olLfP/0uhRANCAARs7pXVhQXyeA/U1Ph+SUh3rwIw/1H/
4G9UV4iN5W3OPUsa+U7glI/B2xETcbfwULXIV+YlO3Kt2YYQtF6jOTyx
-----END PRIVATE KEY-----
";

/// The algorithm of every key.
pub(super) const ALGORITHM: Algorithm = Algorithm::ES256;

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The text is not a PKCS#8 PEM of a P-256 key.
    #[error("signing key {id:?} is not a P-256 key as PKCS#8 in PEM")]
    NotAKey {
        /// Its `kid`.
        id: String,
        /// What the reader said.
        #[source]
        source: jsonwebtoken::errors::Error,
    },
    /// The key set could not be written as JSON.
    #[error("the key set cannot be written")]
    Encode(#[source] serde_json::Error),
}

/// All keys.
pub struct SigningKeys {
    signing_id: String,
    signing: EncodingKey,
    verifying: Vec<(String, DecodingKey)>,
    document: Vec<u8>,
    uses_development_key: bool,
}

/// A key with both halves.
pub(super) struct KeyPair {
    id: String,
    private: EncodingKey,
    public: Jwk,
}

impl KeyPair {
    /// Reads PKCS#8 in PEM.
    pub(super) fn of_pem(id: &str, pem: &str) -> Result<Self, SigningKeyError> {
        let private = EncodingKey::from_ec_pem(pem.as_bytes());
        Self::of(id, private.map_err(|source| SigningKeyError::NotAKey { id: id.to_owned(), source })?)
    }

    /// Reads PKCS#8 in DER.
    pub(super) fn of_der(id: &str, der: &[u8]) -> Result<Self, SigningKeyError> {
        Self::of(id, EncodingKey::from_ec_der(der))
    }

    /// The key that everybody knows.
    pub(super) fn development() -> Result<Self, SigningKeyError> {
        Self::of_pem(DEVELOPMENT_KEY_ID, DEVELOPMENT_KEY_PEM)
    }

    fn of(id: &str, private: EncodingKey) -> Result<Self, SigningKeyError> {
        let not_a_key = |source| SigningKeyError::NotAKey { id: id.to_owned(), source };
        let mut public = Jwk::from_encoding_key(&private, ALGORITHM).map_err(not_a_key)?;
        public.common.key_id = Some(id.to_owned());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { id: id.to_owned(), private, public })
    }
}

impl SigningKeys {
    /// Reads the keys; with none, the development key stands in.
    ///
    /// # Errors
    /// When one is not a P-256 key.
    pub fn new(sources: &[SigningKeySource]) -> Result<Self, SigningKeyError> {
        let mut pairs = Vec::with_capacity(sources.len().max(1));
        for source in sources {
            pairs.push(KeyPair::of_pem(&source.id, source.pem.expose())?);
        }
        if pairs.is_empty() {
            pairs.push(KeyPair::development()?);
        }
        Self::of(pairs)
    }

    /// All of these keys, the first of which signs.
    pub(super) fn of(pairs: Vec<KeyPair>) -> Result<Self, SigningKeyError> {
        let known_to_all = KeyPair::development()?.public.algorithm;
        let uses_development_key = pairs.iter().any(|pair| pair.public.algorithm == known_to_all);
        let mut verifying = Vec::with_capacity(pairs.len());
        let mut published = JwkSet { keys: Vec::with_capacity(pairs.len()) };
        let mut signing = None;
        for KeyPair { id, private, public } in pairs {
            let verifier = DecodingKey::from_jwk(&public)
                .map_err(|source| SigningKeyError::NotAKey { id: id.clone(), source })?;
            published.keys.push(public);
            verifying.push((id.clone(), verifier));
            signing.get_or_insert((id, private));
        }
        let document = serde_json::to_vec(&published).map_err(SigningKeyError::Encode)?;
        let Some((signing_id, signing)) = signing else {
            // Whoever calls has filled the list; should that ever change, the error says so.
            let source = jsonwebtoken::errors::new_error(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat);
            return Err(SigningKeyError::NotAKey { id: DEVELOPMENT_KEY_ID.to_owned(), source });
        };
        Ok(Self { signing_id, signing, verifying, document, uses_development_key })
    }

    /// The `kid` and the key that sign.
    pub(super) fn signing(&self) -> (&str, &EncodingKey) {
        (&self.signing_id, &self.signing)
    }

    /// The `kid` of the key that signs.
    #[must_use]
    pub fn signing_id(&self) -> &str {
        &self.signing_id
    }

    /// How many are published.
    #[must_use]
    pub fn count(&self) -> usize {
        self.verifying.len()
    }

    /// The public key of this `kid`.
    pub(super) fn verifying(&self, id: &str) -> Option<&DecodingKey> {
        self.verifying.iter().find(|(known, _)| known == id).map(|(_, key)| key)
    }

    /// The key set as JSON (RFC 7517 §5), public halves only.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// Whether one of the keys is the one that everybody knows.
    #[must_use]
    pub fn uses_development_key(&self) -> bool {
        self.uses_development_key
    }
}

#[cfg(test)]
mod tests {
    use common::secret::Secret;

    use super::*;

    fn source(id: &str, pem: &str) -> SigningKeySource {
        SigningKeySource { id: id.into(), pem: Secret::new(pem.into()) }
    }

    #[test]
    fn without_keys_the_development_key_signs_and_is_told_apart() {
        let keys = SigningKeys::new(&[]).expect("the development key is sound");
        assert!(keys.uses_development_key());
        assert_eq!(keys.signing().0, DEVELOPMENT_KEY_ID);
        let document: serde_json::Value = serde_json::from_slice(keys.document()).expect("JSON");
        let key = &document["keys"][0];
        assert_eq!(
            (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
            (&"EC".into(), &"P-256".into(), &"ES256".into(), &"sig".into())
        );
        assert_eq!(key["kid"], DEVELOPMENT_KEY_ID);
        assert!(key.get("d").is_none(), "the private half must not be published");
    }

    #[test]
    fn the_development_key_is_recognised_under_another_name() {
        let keys = SigningKeys::new(&[source("k1", DEVELOPMENT_KEY_PEM)]).expect("a sound key");
        assert!(keys.uses_development_key());
        assert!(keys.verifying("k1").is_some() && keys.verifying("k2").is_none());
    }

    #[test]
    fn what_is_no_key_is_named() {
        let error = SigningKeys::new(&[source("k1", "not a key")]).err().expect("not a key");
        assert_eq!(error.to_string(), "signing key \"k1\" is not a P-256 key as PKCS#8 in PEM");
    }
}
