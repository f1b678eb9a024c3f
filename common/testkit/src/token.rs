//! Token: access tokens made by hand.
//!
//! For: tokens that no issuer would make. May touch: the clock.
//! Promises: a token is exactly what the test says, signed here, so that no library mends it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::claims::ACCESS_TOKEN_TYPE;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// A key that signs tokens.
pub trait Signer {
    /// The `kid` header of its tokens.
    fn id(&self) -> &str;
    /// The `alg` header of its tokens.
    fn algorithm(&self) -> Algorithm;
    /// The key itself.
    fn encoding(&self) -> &EncodingKey;
}

/// A token in the making: sound until the test changes it.
#[derive(Clone, Debug)]
pub struct Token {
    header: Value,
    claims: Value,
}

impl Token {
    /// A sound access token (RFC 9068) that ends in an hour.
    pub fn new(issuer: &str, audience: &str, subject: &str, scope: &str) -> Self {
        let now = now();
        Self {
            header: json!({ "typ": ACCESS_TOKEN_TYPE }),
            claims: json!({
                "iss": issuer, "aud": audience, "sub": subject, "client_id": "test", "iat": now - 1,
                "exp": now + 3600, "jti": uuid::Uuid::now_v7().to_string(), "scope": scope, "roles": ["user"],
            }),
        }
    }

    /// Sets a claim, or removes it with `Value::Null`.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.claims, name, value.into());
        self
    }

    /// Sets a header parameter, or removes it with `Value::Null`.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.header, name, value.into());
        self
    }

    /// The token, signed by this key; header parameters that the test has set stay as they are.
    pub fn signed_by(&self, key: &impl Signer) -> String {
        let mut header = self.header.clone();
        for (name, value) in [("alg", json!(key.algorithm())), ("kid", json!(key.id()))] {
            if header.get(name).is_none() {
                set(&mut header, name, value);
            }
        }
        self.seal(&header, |message| {
            jsonwebtoken::crypto::sign(message, key.encoding(), key.algorithm()).expect("a sound key signs")
        })
    }

    /// The token under HS256, with these bytes as the secret, in the name of a key of another kind.
    pub fn signed_with_secret(&self, secret: &[u8], kid: &str) -> String {
        let header = self.clone().header("alg", "HS256").header("kid", kid).header;
        self.seal(&header, |message| {
            let key = EncodingKey::from_secret(secret);
            jsonwebtoken::crypto::sign(message, &key, Algorithm::HS256).expect("any bytes make a secret")
        })
    }

    /// The token with `alg: none` and no signature (RFC 7519 §6), in the name of a key.
    pub fn unsigned(&self, kid: &str) -> String {
        let header = self.clone().header("alg", "none").header("kid", kid).header;
        self.seal(&header, |_| String::new())
    }

    /// Header and claims as JSON texts, for what a JSON value cannot hold: a sound token's, with `kid` and `alg` in place.
    pub fn texts(&self, key: &impl Signer) -> (String, String) {
        let token = self.clone().header("alg", json!(key.algorithm())).header("kid", key.id());
        (token.header.to_string(), token.claims.to_string())
    }

    fn seal(&self, header: &Value, sign: impl FnOnce(&[u8]) -> String) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(&self.claims));
        let signature = sign(message.as_bytes());
        format!("{message}.{signature}")
    }
}

/// A token of these texts, whatever they are, signed by a key.
pub fn sealed(header: &str, claims: &str, key: &impl Signer) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key.encoding(), key.algorithm());
    format!("{message}.{}", signature.expect("a sound key signs"))
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

fn set(object: &mut Value, name: &str, value: Value) {
    let members = object.as_object_mut().expect("headers and claims are objects");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}
