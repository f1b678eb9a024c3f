//! Claims: the JSON that travels in tokens and in answers about API keys.
//!
//! For: the access token's claim set (RFC 9068) and the introspection answer (RFC 7662) in one shape for issuer
//! and verifier. May touch: `access.rs`. Promises: times are seconds since the Unix epoch (RFC 7519 §2).
//! Read next: `api_key.rs`.

use serde::{Deserialize, Serialize};

/// The `typ` header of every access token (RFC 9068 §2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The claim set of an access token (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Who issued the token.
    pub iss: String,
    /// For whom it is meant.
    pub aud: String,
    /// The user's stable id.
    pub sub: String,
    /// The client that asked for it; the login form is `capibara6`.
    pub client_id: String,
    /// Issued at, in seconds.
    pub iat: u64,
    /// Refused from this second on, give or take the verifier's leeway.
    pub exp: u64,
    /// The token's own id, for revocation.
    pub jti: String,
    /// Permissions, separated by spaces.
    pub scope: String,
    /// Roles of the user when the token was issued.
    pub roles: Vec<String>,
}

/// What the backend answers when the gateway asks about an API key (RFC 7662 §2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introspection {
    /// False for unknown, expired and revoked keys alike; then no other field is sent.
    pub active: bool,
    /// The key owner's stable id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Permissions, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Roles of the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The key's public id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Refused from this second on; absent for keys without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}
