//! Token: signing keys of the test's own, and access tokens made by hand.
//!
//! For: tokens that the backend itself would never issue. May touch: the folder it is told to write a key to.
//! Promises: a token is exactly what the test says, signed by hand, so that no library mends it.
//! Read next: `tokens.rs` in the folder above.

use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use testkit::token::{Signer, Token};

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

impl Signer for SigningKey {
    fn id(&self) -> &str {
        self.id
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }

    fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }
}

/// A sound token of the backend under test, until the test changes it.
pub fn token_of(subject: &str, scope: &str) -> Token {
    Token::new(ISSUER, AUDIENCE, subject, scope)
}

/// The id of the key that a token says it was signed with.
pub fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).expect("a JWT").kid.expect("the token names its key")
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
