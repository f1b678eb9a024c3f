//! Swagger: the description of the API, for people to read and to try.
//!
//! For: `/api/v1/docs`. May touch: the files that were built into this program.
//! Promises: no other host is asked for anything, which the page's policy also tells the browser; nothing is shown
//! that the document does not say. Read next: `openapi/mod.rs`.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use common::code::Code;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use utoipa_swagger_ui::Config;

use super::error::ApiError;
use super::extract::PathText;

/// Where the document is, seen from the page: it stays right behind a prefix that somebody puts before both.
const DOCUMENT: &str = "../openapi.json";

/// What the page may load and do. It sets styles on elements, which needs `unsafe-inline` for styles alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /api/v1/docs`: the page's files lie beside it, so it must end with a slash.
pub(super) async fn folder() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "docs/")]).into_response()
}

/// `GET /api/v1/docs/`
pub(super) async fn page() -> Result<Response, ApiError> {
    find("index.html")
}

/// `GET /api/v1/docs/{*file}`
pub(super) async fn file(PathText(wanted): PathText) -> Result<Response, ApiError> {
    find(&wanted)
}

fn find(name: &str) -> Result<Response, ApiError> {
    // Without `none` the page would ask another host whether the document is sound.
    let config = Config::new([DOCUMENT]).validator_url("none").persist_authorization(false);
    let found = utoipa_swagger_ui::serve(name, Arc::new(config));
    let found = found.map_err(|error| ApiError::internal(error.to_string()))?;
    let file = found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such file"))?;
    let content_type = HeaderValue::try_from(&file.content_type).map_err(ApiError::internal)?;
    let headers: [(HeaderName, &'static str); 5] = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    Ok(([(CONTENT_TYPE, content_type)], headers, file.bytes.into_owned()).into_response())
}
