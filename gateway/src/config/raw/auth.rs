//! Keys of `auth`: how callers prove who they are.

use std::path::PathBuf;

use common::secret::SecretRef;
use common::settings::{At, Millis};
use common::{choice, section};

use crate::config::values::HttpUrl;

choice! {
    /// How tokens are signed (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(crate) enum TokenAlgorithm {
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// RSA PKCS#1 v1.5 with SHA-256.
        Rs256 = "RS256",
        /// RSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// Ed25519.
        EdDsa = "EdDSA",
        /// HMAC with SHA-256: whoever can check a token can also make one.
        Hs256 = "HS256",
    }
}

section! {
    /// A way to prove who one is: exactly one of these.
    pub(crate) struct Scheme {
        /// Signed tokens.
        pub jwt: Option<Jwt> = "null",
        /// Keys that the backend issues and knows.
        pub api_key: Option<ApiKeys> = "null",
    }
}

section! {
    /// Bearer tokens in JWT form (RFC 7519, RFC 8725, RFC 9068), in the `Authorization` header.
    pub(crate) struct Jwt {
        /// The only `iss` that is believed.
        pub issuer: String => "name the issuer whose tokens are believed",
        /// What `aud` must name.
        pub audience: String => "name the audience that tokens must be meant for",
        /// What `typ` must say; empty accepts any type.
        pub r#type: Option<String> = "at+jwt",
        /// Algorithms that are accepted, each only with keys of its own kind. HS256 only where it is the only one.
        pub algorithms: Vec<At<TokenAlgorithm>> = "[ES256]",
        /// The keys.
        pub jwks: Option<KeySet> = "null",
        /// The shared secret, for HS256.
        pub secret: Option<At<SecretRef>> = "null",
        /// How far clocks may differ.
        pub leeway: Millis = "30s",
        /// Verified tokens remembered at a time.
        pub cache_max: u32 = "100000",
    }
}

section! {
    /// A JSON Web Key Set (RFC 7517 §5): exactly one of `urls` and `file`.
    pub(crate) struct KeySet {
        /// Where to fetch it; the next is asked when one does not answer.
        pub urls: Vec<HttpUrl> = "[]",
        /// A file to read it from, at start.
        pub file: Option<At<PathBuf>> = "null",
        /// Time between two fetches. A key id that is not known causes one at once; after one in vain, none for 10 s.
        pub refresh: Millis = "5m",
        /// How long a fetch may take.
        pub timeout: Millis = "5s",
    }
}

section! {
    /// API keys in a header.
    pub(crate) struct ApiKeys {
        /// The header that carries the key.
        pub header: String = "X-API-Key",
        /// Whom to ask about a key.
        pub introspection: Introspection => "name the endpoint that knows the keys",
    }
}

section! {
    /// An endpoint that says whether a key is good (RFC 7662).
    pub(crate) struct Introspection {
        /// Its URLs; the next is asked when one does not answer.
        pub urls: Vec<HttpUrl> => "list at least one URL",
        /// Bearer secret by which the gateway shows that it may ask.
        pub secret: Option<At<SecretRef>> = "null",
        /// How long an answer is believed: a revoked key works at most this long.
        pub cache: Millis = "1s",
        /// Keys remembered at a time.
        pub cache_max: u32 = "100000",
        /// How long a question may take.
        pub timeout: Millis = "2s",
    }
}
