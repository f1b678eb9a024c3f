//! Issuer: tokens of every kind, sound and unsound, and the services that vouch for them.
//!
//! For: everything about credentials that does not need the real backend. May touch: loopback sockets, a folder.
//! Promises: a token is exactly what the test says, signed by hand, so that no library mends it.
//! Read next: `auth.rs` in the folder above.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::api_key::ApiKey;
use common::claims::Introspection;
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use testkit::token::{Signer, Token};

use super::server::{self, Server};

/// The issuer's name, as in the tokens and the settings.
pub const ISSUER: &str = "https://auth.test/";

/// The one audience.
pub const AUDIENCE: &str = "capibara6";

/// A signing key and its public half.
pub struct Key {
    /// The `kid` header of its tokens.
    pub id: &'static str,
    /// The `alg` header of its tokens.
    pub algorithm: Algorithm,
    encoding: EncodingKey,
    jwk: Value,
    /// The public key as PEM: what a confused verifier would take for a shared secret.
    pub public_pem: String,
    /// The public key as DER.
    pub public_der: Vec<u8>,
}

/// The keys of the issuer. Made once a process: an RSA key takes a moment.
pub struct Keys {
    /// ECDSA on P-256.
    pub es256: Key,
    /// RSA with 2048 bits.
    pub rs256: Key,
    /// Ed25519.
    pub eddsa: Key,
}

/// The issuer's keys.
pub static KEYS: LazyLock<Keys> =
    LazyLock::new(|| Keys { es256: Key::es256("es-1"), rs256: Key::rs256("rs-1"), eddsa: Key::eddsa("ed-1") });

impl Key {
    /// A new P-256 key.
    pub fn es256(id: &'static str) -> Self {
        let pair = KeyPair::generate().expect("a P-256 key");
        // An uncompressed point: 0x04, then 32 bytes of x and 32 of y (SEC 1 §2.3.3).
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        Self::of(id, Algorithm::ES256, EncodingKey::from_ec_der(pair.serialized_der()), jwk, &pair)
    }

    fn rs256(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("an RSA key");
        let encoding = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("a PKCS#8 key");
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::RS256).expect("the public half");
        let jwk = serde_json::to_value(jwk).expect("a JWK is JSON");
        Self::of(id, Algorithm::RS256, encoding, jwk, &pair)
    }

    fn eddsa(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("an Ed25519 key");
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw()) });
        Self::of(id, Algorithm::EdDSA, EncodingKey::from_ed_der(pair.serialized_der()), jwk, &pair)
    }

    fn of(id: &'static str, algorithm: Algorithm, encoding: EncodingKey, mut jwk: Value, pair: &KeyPair) -> Self {
        jwk["kid"] = json!(id);
        jwk["alg"] = json!(algorithm);
        jwk["use"] = json!("sig");
        let public_pem = pair.public_key_pem();
        Self { id, algorithm, encoding, jwk, public_pem, public_der: pair.subject_public_key_info() }
    }
}

impl Key {
    /// The public half, as published.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }
}

impl Keys {
    /// The key set, as published (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.es256.jwk, self.rs256.jwk, self.eddsa.jwk] })
    }

    /// Writes the key set to a folder, and returns the value of `jwks:` in the settings.
    pub fn jwks_file(&self, folder: &Path) -> String {
        let file = folder.join("jwks.json");
        std::fs::write(&file, self.jwks().to_string()).expect("a temporary folder can be written");
        format!("{{ file: \"{}\" }}", file.display())
    }
}

/// The settings of a scheme for the issuer's tokens, as a YAML flow mapping. `jwks` is one as well.
pub fn scheme(algorithms: &str, jwks: &str) -> String {
    format!("{{ jwt: {{ issuer: \"{ISSUER}\", audience: {AUDIENCE}, algorithms: [{algorithms}], jwks: {jwks} }} }}")
}

impl Signer for Key {
    fn id(&self) -> &str {
        self.id
    }

    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }
}

/// A sound token of the issuer, until the test changes it.
pub fn token_of(subject: &str, scope: &str) -> Token {
    Token::new(ISSUER, AUDIENCE, subject, scope)
}

/// The key set on a server, with a count of its fetches.
pub struct KeySetServer {
    server: Server,
    fetches: Arc<AtomicUsize>,
}

impl KeySetServer {
    /// Publishes the issuer's keys.
    pub async fn start() -> Self {
        let fetches = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fetches);
        let server = Server::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async { server::json(StatusCode::OK, &KEYS.jwks()) }
        })
        .await;
        Self { server, fetches }
    }

    /// The value of `jwks:` in the settings.
    pub fn setting(&self) -> String {
        format!("{{ urls: [\"http://{}/jwks.json\"], refresh: 5m }}", self.server.address)
    }

    /// How often the key set was fetched.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// Goes away at once.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// A source of API keys that answers as the backend's introspection does (RFC 7662).
pub struct KeySource {
    server: Server,
    active: Arc<Mutex<HashMap<String, Introspection>>>,
    questions: Arc<AtomicUsize>,
}

impl KeySource {
    /// Starts one that knows no key.
    pub async fn start() -> Self {
        let active: Arc<Mutex<HashMap<String, Introspection>>> = Arc::default();
        let questions = Arc::new(AtomicUsize::new(0));
        let (known, count) = (Arc::clone(&active), Arc::clone(&questions));
        let server = Server::start(move |asked| {
            count.fetch_add(1, Ordering::SeqCst);
            // The form is `token=<key>`; a key's alphabet needs no percent codes.
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            let token = body.split('&').find_map(|field| field.strip_prefix("token=")).unwrap_or_default();
            let answer = known.lock().expect("no handler panicked").get(token).cloned().unwrap_or_default();
            async move { server::json(StatusCode::OK, &json!(answer)) }
        })
        .await;
        Self { server, active, questions }
    }

    /// Issues a key to a subject.
    pub fn issue(&self, subject: &str, scope: &str) -> ApiKey {
        let key = ApiKey::generate();
        let answer = Introspection {
            active: true,
            sub: Some(subject.to_owned()),
            scope: Some(scope.to_owned()),
            roles: vec!["user".to_owned()],
            key_id: Some(key.id().to_owned()),
            exp: None,
        };
        self.active.lock().expect("no handler panicked").insert(key.reveal(), answer);
        key
    }

    /// Revokes a key.
    pub fn revoke(&self, key: &ApiKey) {
        let revoked = self.active.lock().expect("no handler panicked").remove(&key.reveal());
        assert!(revoked.is_some(), "only issued keys can be revoked");
    }

    /// How often it was asked.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Goes away at once.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// The settings of a scheme for API keys, as a YAML flow mapping.
pub fn key_scheme(sources: &[SocketAddr]) -> String {
    let urls: Vec<String> = sources.iter().map(|source| format!("\"http://{source}/internal/keys\"")).collect();
    let urls = urls.join(", ");
    format!("{{ api_key: {{ header: X-API-Key, introspection: {{ urls: [{urls}], cache: 500ms, timeout: 2s }} }} }}")
}
