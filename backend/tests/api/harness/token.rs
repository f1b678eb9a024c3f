//! Token: signing keys of the test's own, and access tokens made by hand.
//!
//! For: tokens that the backend itself would never issue. May touch: the folder it is told to write a key to.
//! Promises: a token is exactly what the test says, signed by hand, so that no library mends it.
//! Read next: `tokens.rs` in the folder above.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::claims::ACCESS_TOKEN_TYPE;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::settings::{AUDIENCE, ISSUER, secret_file};

/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;

/// A key that signs access tokens.
pub struct SigningKey {
    /// Its `kid`.
    pub id: &'static str,
    /// PKCS#8 in PEM.
    pub pem: String,
    encoding: EncodingKey,
}

/// A token in the making: sound until the test changes it.
#[derive(Clone)]
pub struct Token {
    header: Value,
    claims: Value,
}

impl SigningKey {
    /// A new P-256 key.
    pub fn generate(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        let document = pair.to_pkcs8v1().expect("a new key can be written down");
        Self::read(id, &pem_of(document.as_ref()))
    }

    /// A key that is there already.
    pub fn read(id: &'static str, pem: &str) -> Self {
        let encoding = EncodingKey::from_ec_pem(pem.as_bytes()).expect("PKCS#8 in PEM");
        Self { id, pem: pem.to_owned(), encoding }
    }

    /// Writes the key to a folder, and returns its entry in `auth.signing_keys`.
    pub fn setting(&self, folder: &Path) -> String {
        format!("{{ id: {}, key: {} }}", self.id, secret_file(folder, &format!("{}.pem", self.id), &self.pem))
    }
}

impl Token {
    /// A sound access token (RFC 9068) that ends in an hour.
    pub fn of(subject: &str, scope: &str) -> Self {
        let now = now();
        Self {
            header: json!({ "typ": ACCESS_TOKEN_TYPE }),
            claims: json!({
                "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": "test", "iat": now - 1,
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
    pub fn signed_by(&self, key: &SigningKey) -> String {
        let mut header = self.header.clone();
        for (name, value) in [("alg", "ES256"), ("kid", key.id)] {
            if header.get(name).is_none() {
                set(&mut header, name, value.into());
            }
        }
        self.seal(&header, |message| {
            jsonwebtoken::crypto::sign(message, &key.encoding, Algorithm::ES256).expect("a sound key signs")
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

    fn seal(&self, header: &Value, sign: impl FnOnce(&[u8]) -> String) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(&self.claims));
        let signature = sign(message.as_bytes());
        format!("{message}.{signature}")
    }
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

fn pem_of(document: &[u8]) -> String {
    let text = STANDARD.encode(document);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(PEM_LINE_CHARS)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

fn set(object: &mut Value, name: &str, value: Value) {
    let members = object.as_object_mut().expect("headers and claims are objects");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}
