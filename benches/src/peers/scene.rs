//! Scene: what all proxies are given, so that none is given more.
//!
//! For: addresses, the certificate, the tokens of a thousand users. May touch: a folder.
//! Promises: keys are made anew each time and end with the folder.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use testkit::redis::free_address;
use testkit::token::{Signer, Token};

use super::Job;

/// Users whose tokens are sent, one after another.
const USERS: usize = 1000;

/// What all proxies are given.
#[derive(Debug)]
pub struct Scene {
    /// Where their files go.
    pub folder: PathBuf,
    /// Who answers.
    pub upstream: SocketAddr,
    /// Where they listen: in the clear, with TLS, and with TLS for the whole job.
    pub ports: [SocketAddr; 3],
    /// The gateway.
    pub gateway: PathBuf,
    /// The bare proxy of these benches.
    pub bare: PathBuf,
    /// What the proxies show, and clients trust.
    pub certificate: CertificateDer<'static>,
    /// The script of `wrk` that sends a token with each request.
    pub script: PathBuf,
}

/// The key that signs the tokens.
struct TokenKey(EncodingKey);

impl Signer for TokenKey {
    fn id(&self) -> &'static str {
        "k1"
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }

    fn encoding(&self) -> &EncodingKey {
        &self.0
    }
}

impl Scene {
    /// Makes certificate and tokens, and finds free ports.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn make(folder: &Path, gateway: PathBuf, bare: PathBuf) -> Self {
        let write =
            |name: &str, text: &str| fs::write(folder.join(name), text).expect("a folder that can be written");
        let key = KeyPair::generate().expect("a P-256 key");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names.to_vec()).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        write("tls.crt", &certificate.pem());
        write("tls.key", &key.serialize_pem());
        write("tls.pem", &format!("{}{}", certificate.pem(), key.serialize_pem()));
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("an RSA key of 2048 bits");
        let encoding = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("a PKCS#8 key");
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::RS256).expect("the public half");
        write("jwks.json", &jwks(&jwk).to_string());
        write("token.pub.pem", &pair.public_key_pem());
        write("tokens.lua", &script(&TokenKey(encoding)));
        Self {
            folder: folder.to_owned(),
            upstream: free_address(),
            ports: [free_address(), free_address(), free_address()],
            gateway,
            bare,
            certificate: certificate.der().clone(),
            script: folder.join("tokens.lua"),
        }
    }

    /// A file in the folder, as text.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Where a job is done.
    #[must_use]
    pub fn url(&self, job: Job) -> String {
        let [plain, https, whole] = self.ports;
        match job {
            Job::Plain => format!("http://{plain}/"),
            Job::Https | Job::Http2 | Job::Handshake => format!("https://{https}/"),
            Job::Whole => format!("https://{whole}/whole"),
        }
    }
}

fn jwks(jwk: &Jwk) -> Value {
    let mut key = serde_json::to_value(jwk).expect("a JWK is JSON");
    for (name, value) in [("kid", "k1"), ("alg", "RS256"), ("use", "sig")] {
        key[name] = json!(value);
    }
    json!({ "keys": [key] })
}

fn script(key: &TokenKey) -> String {
    let mut script = String::from("local tokens = {\n");
    for user in 0..USERS {
        let token = Token::new("https://issuer.test/", "api", &format!("user-{user}"), "read").signed_by(key);
        writeln!(script, "\"{token}\",").expect("a text can be written to");
    }
    script.push_str(
        "}\nlocal next = 0\nfunction request()\n  next = next % #tokens + 1\n  \
         return wrk.format(nil, nil, { [\"Authorization\"] = \"Bearer \" .. tokens[next] })\nend\n",
    );
    script
}
