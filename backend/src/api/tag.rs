//! Tag: an answer that the client has already is not sent again.
//!
//! For: lists and documents that are asked for often and change seldom. May touch: their answers.
//! Promises: the entity tag is strong, a digest of the body's bytes (RFC 9110 §8.8.3); who may not see an answer gets no
//! 304 either, because the handler decides first; an answer larger than `TAGGED_BYTES_MAX` is a mistake of ours.
//! Read next: `rest/users.rs`.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::MethodRouter;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::Services;
use super::error::ApiError;
use crate::base::digest::sha256;

/// The largest answer that is looked at, in bytes. Lists are bounded by their pages, documents by this program.
const TAGGED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of the digest that make the tag: two bodies of one resource do not share them by chance.
const TAG_BYTES: usize = 16;

/// What caches do with an answer whose handler says nothing: it is its caller's own, and asked for anew each time.
const CACHING: &str = "private, no-cache";

/// The same methods, whose answers carry a tag.
pub(super) fn tagged(methods: MethodRouter<Arc<Services>>) -> MethodRouter<Arc<Services>> {
    methods.layer(from_fn(tag))
}

async fn tag(request: Request, next: Next) -> Result<Response, ApiError> {
    // The router takes the body of an answer to HEAD away before it comes here, and with it what the tag is made of.
    let is_get = request.method() == Method::GET;
    let known = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect::<Vec<_>>();
    let response = next.run(request).await;
    if !is_get || response.status() != StatusCode::OK {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, TAGGED_BYTES_MAX).await.map_err(ApiError::internal)?;
    let digest = sha256(&bytes);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.split_at(TAG_BYTES).0));
    let value = HeaderValue::try_from(&tag).map_err(ApiError::internal)?;
    parts.headers.insert(ETAG, value);
    parts.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static(CACHING));
    if known.iter().any(|value| names(value, &tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        without_body(&mut parts.headers);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// A 304 says nothing of the body that it does not have (RFC 9110 §15.4.5).
fn without_body(headers: &mut HeaderMap) {
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
}

/// Whether this `If-None-Match` names the tag; weak and strong ones count alike (RFC 9110 §13.1.2).
fn names(value: &HeaderValue, tag: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_named_alone_among_others_or_by_a_star() {
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(names(&HeaderValue::from_static(value), "\"a\""), expected, "{value}");
        }
    }
}
