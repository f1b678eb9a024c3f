//! Tests of what is compressed and what is not, and of what the head says then.

use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, TRANSFER_ENCODING, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::{Asked, Fit, dress, fit};
use crate::config;
use crate::config::checked::{Coding, Compression};

const FILE: &str = "\
version: 1
listeners: { http: { bind: \"127.0.0.1:0\" } }
upstreams: { api: { targets: [\"127.0.0.1:1\"] } }
routes: [{ id: a, path: /*, auth: none, to: api, compress: true }]
";

fn settings() -> Compression {
    let config = config::parse("test", FILE).expect("a sound file");
    config.routes[0].compress.clone().expect("it is switched on")
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn asked(method: &Method, version: Version, fields: &[(&'static str, &'static str)]) -> Asked {
    Asked::read(method, version, &map(fields), false)
}

const ZSTD: Fit = Fit::Coded(Coding::Zstd);
const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn answers_are_compressed_unless_something_speaks_against_it() {
    let asked = asked(&Method::GET, Version::HTTP_11, &[("accept-encoding", "zstd")]);
    let cases: &[(u16, &[(&str, &str)], Fit)] = &[
        (200, &[JSON], ZSTD),
        (200, &[("content-type", "Application/JSON; charset=utf-8")], ZSTD),
        (200, &[("content-type", "text/html")], ZSTD),
        (200, &[("content-type", "application/problem+json")], ZSTD),
        (404, &[JSON], ZSTD),
        (200, &[JSON, ("content-length", "1024")], ZSTD),
        (200, &[JSON, ("content-length", "1023")], Fit::Untouched),
        (200, &[], Fit::Untouched),
        (200, &[("content-type", "image/png")], Fit::Untouched),
        (200, &[JSON, ("content-type", "text/html")], Fit::Untouched),
        (200, &[("content-type", "text/event-stream")], Fit::Untouched),
        (200, &[("content-type", "application/grpc+proto")], Fit::Untouched),
        (200, &[JSON, ("content-encoding", "gzip")], Fit::Untouched),
        (200, &[JSON, ("cache-control", "public, No-Transform")], Fit::Untouched),
        (200, &[JSON, ("content-digest", "sha-256=:AA==:")], Fit::Untouched),
        (100, &[JSON], Fit::Untouched),
        (101, &[JSON], Fit::Untouched),
        (204, &[JSON], Fit::Untouched),
        (206, &[JSON], Fit::Untouched),
        (304, &[JSON], Fit::Untouched),
    ];
    for (status, fields, expected) in cases {
        let status = StatusCode::from_u16(*status).expect("a status");
        assert_eq!(fit(&settings(), asked, status, &map(fields), false), *expected, "{status} {fields:?}");
    }
    assert_eq!(fit(&settings(), asked, StatusCode::OK, &map(&[JSON]), true), Fit::Plain, "no body follows");
}

#[test]
fn requests_that_cannot_take_it_are_left_alone() {
    const ACCEPTS: (&str, &str) = ("accept-encoding", "zstd");
    let cases: &[(Method, Version, &[(&str, &str)], Fit)] = &[
        (Method::GET, Version::HTTP_11, &[ACCEPTS], ZSTD),
        (Method::GET, Version::HTTP_2, &[ACCEPTS], ZSTD),
        (Method::POST, Version::HTTP_11, &[ACCEPTS], ZSTD),
        (Method::HEAD, Version::HTTP_11, &[ACCEPTS], Fit::Plain),
        (Method::GET, Version::HTTP_10, &[ACCEPTS], Fit::Plain),
        (Method::GET, Version::HTTP_11, &[ACCEPTS, ("range", "bytes=0-")], Fit::Plain),
        (Method::GET, Version::HTTP_11, &[ACCEPTS, ("cache-control", "no-transform")], Fit::Plain),
        (Method::GET, Version::HTTP_11, &[], Fit::Plain),
        (Method::GET, Version::HTTP_11, &[("accept-encoding", "zstd;q=0")], Fit::Plain),
    ];
    for (method, version, fields, expected) in cases {
        let asked = asked(method, *version, fields);
        let found = fit(&settings(), asked, StatusCode::OK, &map(&[JSON]), false);
        assert_eq!(found, *expected, "{method} {version:?} {fields:?}");
    }
    let trailers = Asked::read(&Method::GET, Version::HTTP_2, &map(&[ACCEPTS]), true);
    assert_eq!(fit(&settings(), trailers, StatusCode::OK, &map(&[JSON]), false), Fit::Plain);
    let insisting = asked(&Method::GET, Version::HTTP_11, &[("accept-encoding", "zstd, identity;q=0")]);
    let small = map(&[JSON, ("content-length", "2")]);
    assert_eq!(fit(&settings(), insisting, StatusCode::OK, &small, false), ZSTD);
}

#[test]
fn the_head_says_what_became_of_the_body() {
    let fields =
        [JSON, ("content-length", "5000"), ("etag", "\"1\""), ("accept-ranges", "bytes"), ("vary", "Origin")];
    let mut head = map(&fields);
    dress(ZSTD, &mut head);
    assert_eq!(head[CONTENT_ENCODING], "zstd");
    assert_eq!(head[TRANSFER_ENCODING], "chunked");
    assert_eq!(head[ETAG], "W/\"1\"");
    let vary: Vec<_> = head.get_all(VARY).iter().collect();
    assert_eq!(vary, ["Origin", "accept-encoding"]);
    assert!(!head.contains_key(CONTENT_LENGTH) && !head.contains_key(ACCEPT_RANGES));

    let mut head = map(&fields);
    dress(Fit::Plain, &mut head);
    assert_eq!(head[CONTENT_LENGTH], "5000");
    assert_eq!(head[ETAG], "\"1\"");
    assert_eq!(head.get_all(VARY).iter().count(), 2);

    let mut head = map(&fields);
    dress(Fit::Untouched, &mut head);
    assert_eq!(head, map(&fields));

    for (tag, expected) in [("W/\"1\"", "W/\"1\""), ("broken", "broken")] {
        let mut head = map(&[("etag", tag), ("vary", "accept-encoding, x")]);
        dress(ZSTD, &mut head);
        assert_eq!(head[ETAG], expected);
        assert_eq!(head.get_all(VARY).iter().count(), 1, "it is said once");
    }
}
