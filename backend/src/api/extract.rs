//! Extract: what a handler may take for granted, because it has been proven on the way in.
//!
//! For: callers with their permissions, bodies, query strings and paths, with our own shape of error.
//! May touch: `auth`, to verify credentials. Promises: an `Allowed<N>` exists only for a caller who has what `N` needs;
//! two credentials are refused rather than guessed at; `X-Auth-*` headers are not read at all, because whoever reaches
//! this program directly can write them. Read next: `rest/queries.rs`.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use common::access::Permission;
use common::api_key;
use common::code::Code;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use super::Services;
use super::error::ApiError;
use super::middleware::Origin;
use crate::auth::{Caller, Client};

pub(super) static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long a client may take to send a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a route needs its caller to be allowed.
pub(super) trait Needs {
    /// All of these.
    const PERMISSIONS: &'static [Permission];
}

/// To be known at all.
pub(super) struct Known;
/// To look at resources.
pub(super) struct Reading;
/// To change resources.
pub(super) struct Writing;
/// To ask models.
pub(super) struct Executing;
/// To administer.
pub(super) struct Administering;
/// To use GraphQL at all; what each field needs besides is the field's affair.
pub(super) struct UsingGraphql;

impl Needs for Known {
    const PERMISSIONS: &'static [Permission] = &[];
}

impl Needs for Reading {
    const PERMISSIONS: &'static [Permission] = &[Permission::Read, Permission::ApiAccess];
}

impl Needs for Writing {
    const PERMISSIONS: &'static [Permission] = &[Permission::Write, Permission::ApiAccess];
}

impl Needs for Executing {
    const PERMISSIONS: &'static [Permission] = &[Permission::Execute];
}

impl Needs for Administering {
    const PERMISSIONS: &'static [Permission] = &[Permission::Admin];
}

impl Needs for UsingGraphql {
    const PERMISSIONS: &'static [Permission] = &[Permission::GraphqlAccess];
}

/// A verified caller who may do what `N` needs.
pub(super) struct Allowed<N: Needs> {
    pub(super) caller: Caller,
    needs: PhantomData<N>,
}

/// A JSON body.
pub(super) struct JsonBody<T>(pub(super) T);

/// A form body.
pub(super) struct FormBody<T>(pub(super) T);

/// A body as it came.
pub(super) struct RawBody(pub(super) Bytes);

/// The query string.
pub(super) struct QueryString<T>(pub(super) T);

/// The one parameter of the path.
pub(super) struct PathText(pub(super) String);

impl<N: Needs> FromRequestParts<Arc<Services>> for Allowed<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, services: &Arc<Services>) -> Result<Self, ApiError> {
        let caller = identify(&parts.headers, services).await?;
        caller.require(N::PERMISSIONS)?;
        Ok(Self { caller, needs: PhantomData })
    }
}

/// Who shows the credential that is among these headers.
pub(super) async fn identify(headers: &HeaderMap, services: &Services) -> Result<Caller, ApiError> {
    match credential(headers)? {
        Credential::Token(token) => Ok(services.tokens.verify(token)?),
        Credential::ApiKey(key) => Ok(services.api_keys.verify(key).await?.caller),
    }
}

/// What a request shows of itself.
#[derive(Debug, PartialEq, Eq)]
enum Credential<'h> {
    Token(&'h str),
    ApiKey(&'h str),
}

impl<'h> Credential<'h> {
    /// Clients of the OpenAI-compatible door can show a key in no other way. No token begins like one.
    fn shown_as_bearer(text: &'h str) -> Self {
        match text.strip_prefix(api_key::PREFIX) {
            Some(rest) if rest.starts_with('_') => Self::ApiKey(text),
            _ => Self::Token(text),
        }
    }
}

fn credential(headers: &HeaderMap) -> Result<Credential<'_>, ApiError> {
    match (only(headers, &AUTHORIZATION)?, only(headers, &API_KEY)?) {
        (Some(_), Some(_)) => {
            Err(ApiError::new(Code::CredentialAmbiguous, "send a bearer token or an API key, not both"))
        }
        (Some(value), None) => bearer(value).map(Credential::shown_as_bearer),
        (None, Some(value)) => {
            value.to_str().map(Credential::ApiKey).map_err(|_| ApiError::new(Code::KeyInvalid, ""))
        }
        (None, None) => Err(ApiError::new(Code::TokenMissing, "")),
    }
}

/// The token of an `Authorization: Bearer …` header (RFC 6750 §2.1).
pub(super) fn bearer(value: &HeaderValue) -> Result<&str, ApiError> {
    let malformed = || ApiError::new(Code::TokenMalformed, "");
    let text = value.to_str().map_err(|_| malformed())?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            let token = token.trim_start_matches(' ');
            if token.is_empty() { Err(malformed()) } else { Ok(token) }
        }
        _ if text.eq_ignore_ascii_case("bearer") => Err(malformed()),
        _ => Err(ApiError::new(Code::TokenMissing, "only bearer tokens are taken")),
    }
}

/// The header's only value. Two are one too many: which of them counts would be a guess.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(ApiError::new(Code::CredentialAmbiguous, format!("{name} was sent more than once"))),
    }
}

/// The client's key for a request that is to be done once; its form is checked by what does it.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let refused = |why: &str| ApiError::input("Idempotency-Key", why);
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(refused("was sent more than once")),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| refused("must be visible ASCII characters"))?;
            Ok(Some(text.to_owned()))
        }
    }
}

impl Origin {
    /// For the audit log and the throttle.
    pub(super) fn client(&self) -> Client<'_> {
        Client { address: self.address, request_id: &self.request_id }
    }
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::internal("the middleware did not run"))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let rejected = |rejection: JsonRejection| refusal(rejection.status(), &rejection.body_text());
        in_time(axum::Json::<T>::from_request(request, state)).await?.map(|body| Self(body.0)).map_err(rejected)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for FormBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let rejected = |rejection: FormRejection| refusal(rejection.status(), &rejection.body_text());
        in_time(axum::Form::<T>::from_request(request, state)).await?.map(|body| Self(body.0)).map_err(rejected)
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let rejected = |rejection: BytesRejection| refusal(rejection.status(), &rejection.body_text());
        in_time(Bytes::from_request(request, state)).await?.map(Self).map_err(rejected)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryString<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let rejected = |rejection: QueryRejection| refusal(rejection.status(), &rejection.body_text());
        axum::extract::Query::<T>::from_request_parts(parts, state).await.map(|query| Self(query.0)).map_err(rejected)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let rejected = |rejection: PathRejection| refusal(rejection.status(), &rejection.body_text());
        axum::extract::Path::<String>::from_request_parts(parts, state)
            .await
            .map(|path| Self(path.0))
            .map_err(rejected)
    }
}

/// Bodies are read before anything is done, so that a client that sends slowly is told from a handler that takes long.
async fn in_time<B>(reading: impl Future<Output = B>) -> Result<B, ApiError> {
    tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .map_err(|_| ApiError::new(Code::RequestTimeout, format!("the body was not there within {BODY_TIMEOUT:?}")))
}

/// The framework's refusal in our words. Its texts begin with what failed in general; what is of use comes after.
fn refusal(status: StatusCode, text: &str) -> ApiError {
    const PREFIXES: [&str; 4] = [
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to parse the request body as JSON: ",
        "Failed to deserialize form body: ",
        "Failed to deserialize query string: ",
    ];
    let detail = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(Code::BodyTooLarge, detail),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::new(Code::MediaTypeUnsupported, detail),
        status if status.is_server_error() => ApiError::internal(text.to_owned()),
        _ => ApiError::new(Code::InputInvalid, detail),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::api::error::Refusal;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn code_of(error: ApiError) -> &'static str {
        error.into_response().extensions().get::<Refusal>().expect("a refusal").code.name()
    }

    #[test]
    fn one_credential_is_taken_and_two_are_refused() {
        assert_eq!(credential(&headers(&[("authorization", "Bearer a.b.c")])).ok(), Some(Credential::Token("a.b.c")));
        assert_eq!(
            credential(&headers(&[("authorization", "bearer  a.b.c")])).ok(),
            Some(Credential::Token("a.b.c"))
        );
        assert_eq!(credential(&headers(&[("x-api-key", "k")])).ok(), Some(Credential::ApiKey("k")));
        assert_eq!(
            credential(&headers(&[("authorization", "Bearer cap6_k")])).ok(),
            Some(Credential::ApiKey("cap6_k"))
        );
        assert_eq!(credential(&headers(&[("authorization", "Bearer cap6")])).ok(), Some(Credential::Token("cap6")));
        let cases: &[(&[(&'static str, &str)], &str)] = &[
            (&[], "token_missing"),
            (&[("authorization", "Basic YTpi")], "token_missing"),
            (&[("authorization", "Bearer")], "token_malformed"),
            (&[("authorization", "Bearer  ")], "token_malformed"),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], "credential_ambiguous"),
            (&[("authorization", "Bearer a"), ("x-api-key", "k")], "credential_ambiguous"),
            (&[("x-api-key", "k"), ("x-api-key", "k")], "credential_ambiguous"),
        ];
        for (pairs, expected) in cases {
            let error = credential(&headers(pairs)).expect_err("refused");
            assert_eq!(code_of(error), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_detail_names_the_field_and_nothing_of_the_framework() {
        let text = "Failed to deserialize the JSON body into the target type: a.b: invalid type at line 1 column 2";
        let response = refusal(StatusCode::UNPROCESSABLE_ENTITY, text).into_response();
        let refusal = response.extensions().get::<Refusal>().expect("a refusal");
        assert_eq!(
            (refusal.code, refusal.detail.as_str()),
            (Code::InputInvalid, "a.b: invalid type at line 1 column 2")
        );
    }
}
