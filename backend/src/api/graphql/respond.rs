//! Respond: the media types and statuses of GraphQL over HTTP.
//!
//! For: choosing a form by `Accept`, asking for one by `Content-Type`, and the answer in it. May touch: nothing.
//! Promises: `application/graphql-response+json` for whoever accepts it, with a status that tells (§6.4.2 of the draft:
//! 200 when there is data, 400 when the request was refused); `application/json` for everybody else, with 200 for
//! everything that was a GraphQL request at all (§6.4.1); answers are not stored by anybody.
//! Read next: `http.rs`.

use std::cmp::Ordering;

use axum::response::{IntoResponse as _, Response};
use common::code::Code;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::outcome::Outcome;
use crate::api::error::ApiError;

/// The media type that GraphQL has of its own.
const GRAPHQL_RESPONSE: &str = "application/graphql-response+json";
/// The one it used before.
const JSON: &str = "application/json";

/// In which form the client takes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/graphql-response+json`
    Graphql,
    /// `application/json`
    Json,
}

impl Media {
    fn content_type(self) -> &'static str {
        match self {
            Self::Graphql => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }
}

/// The form that `Accept` prefers. Who does not say, or takes anything, may know the old form only.
///
/// # Errors
/// `not_acceptable`.
pub(super) fn acceptable(headers: &HeaderMap) -> Result<Media, ApiError> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges =
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|range| !range.is_empty()).peekable();
    if ranges.peek().is_none() {
        return Ok(Media::Json);
    }
    let mut best: Option<(f32, Media)> = None;
    for (quality, media) in ranges.filter_map(read_range) {
        let better = match best {
            None => true,
            Some((so_far, _)) => match quality.total_cmp(&so_far) {
                Ordering::Greater => true,
                Ordering::Equal => media == Media::Graphql,
                Ordering::Less => false,
            },
        };
        if better {
            best = Some((quality, media));
        }
    }
    best.map(|(_, media)| media)
        .ok_or_else(|| ApiError::new(Code::NotAcceptable, format!("the answer is {GRAPHQL_RESPONSE} or {JSON}")))
}

/// One range of `Accept` that fits a form of ours, with its quality; `None` for others, and for what is ruled out.
fn read_range(range: &str) -> Option<(f32, Media)> {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let media = match name.as_str() {
        GRAPHQL_RESPONSE => Media::Graphql,
        JSON | "application/*" | "*/*" => Media::Json,
        _ => return None,
    };
    let mut quality = 1.0;
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().ok()?,
            "charset" if !is_utf8(value) => return None,
            _ => {}
        }
    }
    (quality > 0.0).then_some((quality, media))
}

/// Takes a body only as JSON. A form or plain text is what a page of somebody else's can make a browser send.
///
/// # Errors
/// `media_type_unsupported`.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = || ApiError::new(Code::MediaTypeUnsupported, format!("send {JSON}"));
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let mut parts = value.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(JSON));
    let readable = parts
        .filter_map(|part| part.split_once('='))
        .all(|(name, value)| !name.trim().eq_ignore_ascii_case("charset") || is_utf8(value));
    if named && readable { Ok(()) } else { Err(refused()) }
}

fn is_utf8(charset: &str) -> bool {
    charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
}

/// The answer to one request.
pub(super) fn one(media: Media, outcome: &Outcome) -> Response {
    let status =
        if outcome.is_refusal() && media == Media::Graphql { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    write(status, media, outcome)
}

/// The answer to a batch: each request has its own outcome, so that the whole is never refused.
pub(super) fn many(media: Media, outcomes: &[Outcome]) -> Response {
    write(StatusCode::OK, media, &outcomes)
}

/// The answer to what was no GraphQL request: 400 in either form.
pub(super) fn malformed(media: Media, outcome: &Outcome) -> Response {
    write(StatusCode::BAD_REQUEST, media, outcome)
}

fn write(status: StatusCode, media: Media, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let headers = [(CONTENT_TYPE, media.content_type()), (CACHE_CONTROL, "no-store")];
            (status, headers, bytes).into_response()
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_preferred_form_is_chosen() {
        let cases = [
            (None, Some(Media::Json)),
            (Some(""), Some(Media::Json)),
            (Some("*/*"), Some(Media::Json)),
            (Some("application/json"), Some(Media::Json)),
            (Some("application/graphql-response+json"), Some(Media::Graphql)),
            (Some("Application/GraphQL-Response+JSON; charset=UTF-8"), Some(Media::Graphql)),
            (Some("application/graphql-response+json, application/json"), Some(Media::Graphql)),
            (Some("application/json, application/graphql-response+json"), Some(Media::Graphql)),
            (Some("application/json, application/graphql-response+json;q=0.9"), Some(Media::Json)),
            (Some("application/graphql-response+json;q=0, */*"), Some(Media::Json)),
            (Some("text/html, */*;q=0.1"), Some(Media::Json)),
            (Some("text/html"), None),
            (Some("application/json; charset=latin1"), None),
            (Some("application/json;q=0"), None),
            (Some("application/json;q=high"), None),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(acceptable(&headers).ok(), expected, "{accept:?}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        let cases = [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON;charset=\"UTF-8\"", true),
            ("application/json; charset=utf-16", false),
            ("application/jsonp", false),
            ("application/graphql", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ];
        assert!(check_content_type(&HeaderMap::new()).is_err());
        for (value, taken) in cases {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(check_content_type(&headers).is_ok(), taken, "{value}");
        }
    }
}
