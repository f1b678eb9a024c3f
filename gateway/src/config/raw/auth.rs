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

choice! {
    /// What of a client certificate names the caller.
    pub(crate) enum CertificateName {
        /// The common name of its subject.
        CommonName = "cn",
        /// Its first alternative name that is a URI, such as a SPIFFE id.
        SanUri = "san_uri",
        /// Its first alternative name that is a DNS name.
        SanDns = "san_dns",
        /// Its first alternative name that is an e-mail address.
        SanEmail = "san_email",
        /// The SHA-256 of the whole certificate, in hexadecimal digits.
        Fingerprint = "fingerprint",
    }
}

section! {
    /// A way to prove who one is: exactly one of these.
    pub(crate) struct Scheme {
        /// Signed tokens.
        pub jwt: Option<Jwt> = "null",
        /// Keys that were issued and are known.
        pub api_key: Option<ApiKeys> = "null",
        /// Tokens that say nothing by themselves; somebody has to be asked.
        pub introspection: Option<OpaqueTokens> = "null",
        /// User name and password with every request (RFC 7617).
        pub basic: Option<Basic> = "null",
        /// A service of your own that is asked about every request.
        pub forward: Option<Forward> = "null",
        /// The certificate that the client has shown; see `listeners.*.tls.client_auth`.
        pub client_certificate: Option<ClientCertificate> = "null",
    }
}

section! {
    /// Bearer tokens in JWT form (RFC 7519, RFC 8725, RFC 9068), in the `Authorization` header and wherever else it says. A
    /// route may name several such schemes; the token's issuer says which one is its own.
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
        /// The shared secret, for HS256; 32 bytes at least.
        pub secret: Option<At<SecretRef>> = "null",
        /// What is read from the claims.
        pub claims: ClaimNames = "{}",
        /// Cookie that may carry the token instead of the header.
        pub cookie: Option<At<String>> = "null",
        /// Query parameter that may carry the token instead of the header. It is taken out before the request goes on.
        pub query: Option<At<String>> = "null",
        /// Whether a WebSocket may carry the token in `Sec-WebSocket-Protocol: bearer, TOKEN, other`, as browsers can set no
        /// other header. Both are taken out before the request goes on, so the client offers a protocol of its own besides.
        pub websocket_protocol: bool = "false",
        /// How far clocks may differ.
        pub leeway: Millis = "30s",
        /// Verified tokens remembered at a time.
        pub cache_max: u32 = "100000",
    }
}

section! {
    /// What is read from claims. A name is that of a claim, or a path into it such as `realm_access.roles`.
    pub(crate) struct ClaimNames {
        /// Who it is.
        pub subject: String = "sub",
        /// Permissions: texts, with a space between two, or lists of texts. All that are there count.
        pub permissions: Vec<String> = "[scope]",
        /// Roles: the same.
        pub roles: Vec<String> = "[roles]",
        /// Claims that must be there.
        pub required: Vec<RequiredClaim> = "[]",
    }
}

section! {
    /// A claim that must be there.
    pub(crate) struct RequiredClaim {
        /// Its name, or the path to it.
        pub claim: String => "name the claim",
        /// What it must say, or hold where it is a list. Without it, anything.
        pub value: Option<String> = "null",
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
    /// API keys in a header, known to exactly one of `introspection`, `file` and `redis`.
    pub(crate) struct ApiKeys {
        /// The header that carries the key.
        pub header: String = "X-API-Key",
        /// Whether a key may also come as a bearer token, for clients that can set no other header.
        pub bearer: bool = "false",
        /// Whom to ask about a key.
        pub introspection: Option<Introspection> = "null",
        /// YAML file with the hashes of the keys; `gateway key new` prints a key and its entry.
        pub file: Option<At<PathBuf>> = "null",
        /// The keys are kept in `stores.redis`, one each under `PREFIX:key:ID`, in JSON with the fields of the file's entries.
        pub redis: Option<RedisKeys> = "null",
    }
}

section! {
    /// Keys in the store that gateways share.
    pub(crate) struct RedisKeys {
        /// How long a key is believed once it was looked up: one that was taken away works at most this long.
        pub cache: Millis = "1s",
        /// How long it is believed that there is no such key.
        pub negative_cache: Millis = "1s",
        /// Keys remembered at a time.
        pub cache_max: u32 = "100000",
    }
}

section! {
    /// An endpoint that says whether a key or token is good (RFC 7662).
    pub(crate) struct Introspection {
        /// Its URLs; the next is asked when one does not answer.
        pub urls: Vec<HttpUrl> => "list at least one URL",
        /// Bearer secret by which the gateway shows that it may ask.
        pub secret: Option<At<SecretRef>> = "null",
        /// User name by which it shows that instead, with `secret` as its password (HTTP Basic).
        pub client_id: Option<String> = "null",
        /// How long an answer is believed: a revoked key or token works at most this long, unless `revocations` tells sooner.
        pub cache: Millis = "1s",
        /// How long it is believed that a key or token is not good.
        pub negative_cache: Millis = "1s",
        /// Keys or tokens remembered at a time.
        pub cache_max: u32 = "100000",
        /// How long a question may take.
        pub timeout: Millis = "2s",
    }
}

section! {
    /// Bearer tokens that say nothing by themselves (RFC 7662). Beside a `jwt` scheme, those that are not in JWT form.
    pub(crate) struct OpaqueTokens {
        /// Whom to ask about a token.
        pub ask: Introspection => "name the endpoint that knows the tokens",
        /// What `aud` of the answer must name; without it, anything.
        pub audience: Option<String> = "null",
        /// What is read from the answer.
        pub claims: ClaimNames = "{}",
    }
}

section! {
    /// User name and password with every request (RFC 7617).
    pub(crate) struct Basic {
        /// YAML file with the users: `users: [{ name, password_hash, permissions, roles }]`, hashes by argon2id or bcrypt.
        pub file: At<PathBuf> => "name the file of users",
        /// What the client is told that the password is for.
        pub realm: At<String> = "capibara6",
        /// How long a password is believed once it was verified. Hashing is slow by intent.
        pub cache: Millis = "60s",
        /// Passwords hashed at a time; more wait, and more than ten times as many are answered 503.
        pub hashing_max: u16 = "4",
    }
}

section! {
    /// A service that decides: a GET for each request, with its method, target, host and client in `X-Forwarded-Method`,
    /// `-Uri`, `-Host`, `-For` and `-Proto`, and never its body. 2xx lets it pass, 401 and 403 do not, and anything else is 503.
    pub(crate) struct Forward {
        /// Where to ask.
        pub url: HttpUrl => "name the service's URL",
        /// Headers of the request that it sees.
        pub send_headers: Vec<At<String>> = "[authorization, cookie]",
        /// Header of its answer that names the caller.
        pub subject_header: At<String> = "X-Auth-Subject",
        /// Header of its answer with permissions, separated by spaces.
        pub permissions_header: At<String> = "X-Auth-Permissions",
        /// Header of its answer with roles, separated by commas.
        pub roles_header: At<String> = "X-Auth-Roles",
        /// Headers of its answer that go to the upstream, in place of what the client has sent under these names.
        pub copy_headers: Vec<At<String>> = "[]",
        /// How long it may take.
        pub timeout: Millis = "2s",
        /// Questions open at a time; more are answered 503.
        pub questions_max: u32 = "256",
    }
}

section! {
    /// The certificate that the client has shown, and that the listener has verified.
    pub(crate) struct ClientCertificate {
        /// What of it names the caller.
        pub subject: CertificateName = "cn",
        /// Permissions of everybody with a certificate.
        pub permissions: Vec<String> = "[]",
        /// Roles of everybody with a certificate.
        pub roles: Vec<String> = "[]",
    }
}
