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
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::api_key::ApiKey;
use common::claims::{ACCESS_TOKEN_TYPE, Introspection};
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

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

/// A token in the making: sound until the test changes it.
#[derive(Clone)]
pub struct Token {
    header: Value,
    claims: Value,
}

impl Token {
    /// A sound access token (RFC 9068) that ends in an hour.
    pub fn of(subject: &str, scope: &str) -> Self {
        let now = now();
        Self {
            header: json!({ "typ": ACCESS_TOKEN_TYPE }),
            claims: json!({
                "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": "journey", "iat": now - 1,
                "exp": now + 3600, "jti": uuid::Uuid::new_v4().to_string(), "scope": scope, "roles": ["user"],
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
    pub fn signed_by(&self, key: &Key) -> String {
        let mut header = self.header.clone();
        for (name, value) in [("alg", json!(key.algorithm)), ("kid", json!(key.id))] {
            if header.get(name).is_none() {
                set(&mut header, name, value);
            }
        }
        self.seal(&header, |message| {
            jsonwebtoken::crypto::sign(message, &key.encoding, key.algorithm).expect("a sound key signs")
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
    pub fn texts(&self, key: &Key) -> (String, String) {
        let token = self.clone().header("alg", json!(key.algorithm)).header("kid", key.id);
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
pub fn sealed(header: &str, claims: &str, key: &Key) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.encoding, key.algorithm);
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
