//! API errors: the one place where errors meet HTTP.
//!
//! For: a code, a detail for the client, the headers that belong to them, and a cause for the log. May touch: the errors
//! of `auth`, `query` and `worker`. Promises: causes never reach the client; every 401 has a `WWW-Authenticate` (RFC 9110
//! §11.6.1), every 429 and 503 a `Retry-After`.
//! Read next: `middleware.rs`, which writes the body, and `common::code` for all codes.

use std::error::Error;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use common::access::Permission;
use common::code::Code;
use common::telemetry::with_causes;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::auth::{AuthError, TokenError};
use crate::query::{ProviderError, QueryError};
use crate::worker::{HistoryError, JobError};

/// When to try again after a 503, in seconds: long enough for a restart, short enough for a person.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The protection space of every challenge (RFC 9110 §11.5).
const REALM: &str = "capibara6";

/// Why a request was not served.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    detail: String,
    retry_after_seconds: Option<u64>,
    missing: Option<Permission>,
    param: Option<&'static str>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// What the client learns. Left in the answer's extensions for `middleware.rs`, which knows the request.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) detail: String,
    /// The field that it is about, where one is to blame and known by name.
    pub(super) param: Option<&'static str>,
}

impl ApiError {
    /// A refusal with a detail for the client.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_seconds: None, missing: None, param: None, cause: None }
    }

    /// A field that does not hold what it must.
    #[must_use]
    pub fn input(field: &str, why: &str) -> Self {
        Self::new(Code::InputInvalid, format!("{field} {why}"))
    }

    /// A failure of ours. The client learns only that there was one.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Code::InternalError, "").caused_by(cause)
    }

    fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Names the field that it is about.
    #[must_use]
    pub(super) fn about(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// What to say to somebody who must show a credential, or a better one (RFC 6750 §3).
    fn challenge(&self) -> Option<String> {
        let status = self.code.status();
        let bare = format!("Bearer realm=\"{REALM}\"");
        match (status, self.code, self.missing) {
            (
                401,
                Code::TokenMissing | Code::LoginFailed | Code::RefreshInvalid | Code::KeyMissing | Code::KeyInvalid,
                _,
            ) => Some(bare),
            (401, Code::CredentialAmbiguous, _) => Some(format!("{bare}, error=\"invalid_request\"")),
            (401, code, _) => {
                Some(format!("{bare}, error=\"invalid_token\", error_description=\"{}\"", code.title()))
            }
            (403, _, Some(missing)) => Some(format!("{bare}, error=\"insufficient_scope\", scope=\"{missing}\"")),
            _ => None,
        }
    }

    /// What the client may know of it, where it is not told by HTTP. The rest goes to the log, as always.
    #[must_use]
    pub(super) fn told(self) -> Refusal {
        self.log();
        Refusal { code: self.code, detail: self.detail, param: self.param }
    }

    /// Failures of ours and of those we rely on belong in the log, with everything that led to them.
    fn log(&self) {
        if self.code.status() < 500 {
            return;
        }
        let cause = self.cause.as_deref().map(|cause| with_causes(cause));
        tracing::error!(code = self.code.name(), cause, "a request failed");
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(challenge) = self.challenge().and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        let retry_after = match self.code.status() {
            503 => Some(self.retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS)),
            _ => self.retry_after_seconds,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Refusal { code: self.code, detail: self.detail, param: self.param });
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::LoginFailed => Self::new(Code::LoginFailed, ""),
            AuthError::LoginThrottled { retry_after_seconds } => {
                Self::new(Code::LoginThrottled, error.to_string()).retry_after(retry_after_seconds)
            }
            AuthError::RefreshInvalid => Self::new(Code::RefreshInvalid, ""),
            AuthError::Token(error) => error.into(),
            AuthError::KeyInvalid => Self::new(Code::KeyInvalid, ""),
            AuthError::PermissionMissing { missing } => {
                let mut refusal = Self::new(Code::PermissionMissing, error.to_string());
                refusal.missing = Some(missing);
                refusal
            }
            AuthError::GrantExceeded { .. } | AuthError::OutlivesCaller => {
                Self::new(Code::GrantExceeded, error.to_string())
            }
            AuthError::Input { .. } => Self::new(Code::InputInvalid, error.to_string()),
            AuthError::NameTaken
            | AuthError::KeysFull
            | AuthError::OwnAccount
            | AuthError::ChangedMeanwhile
            | AuthError::RequestKeyReused => Self::new(Code::Conflict, error.to_string()),
            AuthError::SecretShown => Self::new(Code::SecretShown, error.to_string()),
            AuthError::NotFound => Self::new(Code::NotFound, ""),
            AuthError::Overloaded => Self::new(Code::Overloaded, "too many passwords are being checked"),
            AuthError::Storage(_) if error.is_passing() => {
                Self::new(Code::DependencyUnavailable, "the database does not answer").caused_by(error)
            }
            AuthError::Hashing(_) | AuthError::Signing(_) | AuthError::Unsound(_) | AuthError::Storage(_) => {
                Self::internal(error)
            }
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Malformed => Code::TokenMalformed,
            TokenError::AlgorithmInvalid => Code::TokenAlgorithmInvalid,
            TokenError::TypeInvalid => Code::TokenTypeInvalid,
            TokenError::KeyUnknown => Code::TokenKeyUnknown,
            TokenError::SignatureInvalid => Code::TokenSignatureInvalid,
            TokenError::Expired => Code::TokenExpired,
            TokenError::NotYetValid => Code::TokenNotYetValid,
            TokenError::Revoked => Code::TokenRevoked,
            TokenError::IssuerInvalid => Code::TokenIssuerInvalid,
            TokenError::AudienceInvalid => Code::TokenAudienceInvalid,
            TokenError::ClaimInvalid => Code::TokenClaimInvalid,
        };
        Self::new(code, "")
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match &error {
            QueryError::Input { field, .. } => Self::new(Code::InputInvalid, error.to_string()).about(field),
            QueryError::Overloaded { .. } => Self::new(Code::Overloaded, error.to_string()),
            QueryError::Model { model, cause } => {
                let refusal = match **cause {
                    ProviderError::Timeout => {
                        Self::new(Code::ModelTimeout, format!("model {model} did not answer in time"))
                    }
                    ProviderError::LeftAlone { retry_after } => {
                        Self::new(Code::ModelUnavailable, format!("model {model} is left alone after failures"))
                            // To the next full second: who comes earlier comes in vain.
                            .retry_after(retry_after.as_secs().saturating_add(1))
                    }
                    _ => Self::new(Code::ModelFailed, format!("model {model} failed")),
                };
                refusal.caused_by(error)
            }
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Query(error) => error.into(),
            JobError::Input { .. } => Self::new(Code::InputInvalid, error.to_string()),
            JobError::NotFound => Self::new(Code::NotFound, ""),
            JobError::KeyReused | JobError::NothingDead => Self::new(Code::Conflict, error.to_string()),
            JobError::Full { .. } | JobError::OwnerFull { .. } => Self::new(Code::Overloaded, error.to_string()),
            JobError::Storage(_) if error.is_passing() => {
                Self::new(Code::DependencyUnavailable, "the database does not answer").caused_by(error)
            }
            JobError::Unsound(_) | JobError::Storage(_) => Self::internal(error),
        }
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match &error {
            HistoryError::Input { .. } => Self::new(Code::InputInvalid, error.to_string()),
            HistoryError::Storage(cause) if cause.is_passing() => {
                Self::new(Code::DependencyUnavailable, "the database does not answer").caused_by(error)
            }
            HistoryError::Storage(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_and_retries_stand_where_they_belong() {
        let cases: [(ApiError, u16, Option<&str>, Option<&str>); 6] = [
            (ApiError::new(Code::TokenMissing, ""), 401, Some("Bearer realm=\"capibara6\""), None),
            (
                TokenError::Expired.into(),
                401,
                Some(
                    "Bearer realm=\"capibara6\", error=\"invalid_token\", error_description=\"The token has expired\"",
                ),
                None,
            ),
            (
                AuthError::PermissionMissing { missing: Permission::Execute }.into(),
                403,
                Some("Bearer realm=\"capibara6\", error=\"insufficient_scope\", scope=\"execute\""),
                None,
            ),
            (AuthError::LoginThrottled { retry_after_seconds: 42 }.into(), 429, None, Some("42")),
            (AuthError::Overloaded.into(), 503, None, Some("5")),
            (AuthError::NotFound.into(), 404, None, None),
        ];
        for (error, status, challenge, retry_after) in cases {
            let code = error.code.name();
            let response = error.into_response();
            let header = |name| response.headers().get(name).map(|value| value.to_str().expect("text"));
            assert_eq!(response.status().as_u16(), status, "{code}");
            assert_eq!(header(WWW_AUTHENTICATE), challenge, "{code}");
            assert_eq!(header(RETRY_AFTER), retry_after, "{code}");
        }
    }
}
