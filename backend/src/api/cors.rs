//! CORS: which pages of other origins may use this program from a browser.
//!
//! For: the middleware. May touch: the answers' fields. Promises: nothing is allowed to an origin that is not listed, and
//! with an empty list nothing is added to any answer; a listed origin is repeated, never guessed at.
//! Read next: `middleware.rs`.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::config::Cors;

/// What the routes of this program know.
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE";
/// The fields that pages may send.
const HEADERS: &str = "authorization, content-type, idempotency-key, if-none-match, x-api-key, x-request-id";
/// The fields of answers that pages may read.
const EXPOSED: &str = "etag, location, retry-after, www-authenticate, x-cache, x-request-id";
/// How long browsers may remember what they may do, in seconds.
const MAX_AGE_SECONDS: u64 = 600;

/// The answer to a browser that asks what a page may do; `None` for every other request.
pub(super) fn preflight(cors: &Cors, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let asks = request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let allowed = headers.get(ORIGIN).is_some_and(|origin| allowed(cors, origin).is_some());
    (asks && allowed).then(|| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_SECONDS));
        response
    })
}

/// Tells the browser whether the page of this origin may read the answer.
pub(super) fn allow(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if cors.origins.is_empty() {
        return;
    }
    // Answers differ by it, so caches must not mix them up.
    headers.append(VARY, HeaderValue::from_static("origin"));
    let Some(value) = origin.and_then(|origin| allowed(cors, origin)) else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    if cors.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// What is said of this origin, if it may.
fn allowed(cors: &Cors, origin: &HeaderValue) -> Option<HeaderValue> {
    let is_any = cors.origins.iter().any(|listed| listed == "*");
    if is_any {
        return Some(HeaderValue::from_static("*"));
    }
    cors.origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}
