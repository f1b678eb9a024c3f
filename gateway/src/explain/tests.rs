//! Tests: stories of one configuration, and what never shows in them.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::request::{Door, Request};
use super::story::Story;
use super::walk::walk;
use super::{cases, routes};
use crate::base::http_client;
use crate::base::telemetry::metrics::Metrics;
use crate::config;
use crate::config::checked::RequestLine;
use crate::snapshot::Snapshot;
use crate::stages::auth::rehearse::Sender;

const FILE: &str = "\
version: 1
listeners:
  http: { bind: \"127.0.0.1:8080\", redirect: https }
  bare: { bind: \"127.0.0.1:8081\" }
  https: { bind: \"127.0.0.1:8443\", tls: { certificates: [{ cert: c, key: k }] } }
upstreams:
  api: { targets: [\"127.0.0.1:1\"] }
  next: { targets: [\"127.0.0.1:2\"] }
auth:
  tokens: { jwt: { issuer: \"https://a.test/\", audience: a, jwks: { urls: [\"http://127.0.0.1:9/k\"] } } }
client_ip: { trusted_proxies: [10.0.0.0/8], deny: [192.0.2.0/24] }
limits:
  who: { by: [identity.key_or_subject, header.X-Tenant], rate: 10/s }
routes:
  - { id: open, path: /open/*, auth: none, to: api, request_headers: { set: { X-Upstream-Key: hunter2 } } }
  - { id: open_post, path: /open/form, methods: [POST], auth: none, to: api }
  - { id: below, host: \"*.a.test\", path: /open/*, auth: none, to: next }
  - { id: host, host: www.a.test, path: /*, auth: none, to: next }
  - { id: known, path: /known, auth: [tokens], require: [read], limits: [who], to: api }
  - { id: mine, path: /users/*, auth: [tokens], require: [], owner: { segment: 2 }, to: api }
  - id: split
    path: /split/*
    auth: none
    split: [{ to: api, weight: 1 }, { to: next, weight: 1 }]
    split_by: header.X-User
    rewrite: { strip_prefix: /split, add_prefix: /v2 }
  - { id: gone, path: /gone, auth: none, respond: { status: 410, headers: { X-Why: moved } } }
  - { id: old, path: /old/*, auth: none, redirect: { to: \"https://b.test\" } }
  - { id: socket, path: /socket, auth: none, allow_from: [127.0.0.0/8], websocket: true, to: api }
tests:
  - { send: GET /open/x, expect: { route: open, upstream: api, headers: { X-Forwarded-Proto: https } } }
  - { send: GET /known, expect: { status: 401, code: token_missing } }
  - { send: GET /known, as: { permissions: [read] }, expect: { status: 403, headers: { X-Auth-Subject: somebody } } }
  - { send: GET /known, headers: { Authorization: Bearer a.b.c }, expect: { status: 401 } }
";

fn snapshot() -> Snapshot {
    snapshot_of(FILE)
}

fn snapshot_of(text: &str) -> Snapshot {
    testkit::install_crypto();
    let config = config::parse("f.yaml", text).expect("a sound file");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let client = http_client::builder().build().expect("a client");
    Snapshot::build(config, &metrics, &client, &Arc::default(), None).expect("a sound file")
}

fn request(snapshot: &Snapshot, line: &str, fields: &[(&'static str, &str)], from: &str) -> Request {
    let value = |value: &str| HeaderValue::from_str(value).expect("a value");
    let fields: Vec<_> = fields.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect();
    let line = RequestLine::parse(line).expect("a request line");
    Request::new(&line, &fields, from.parse().expect("an address"), &snapshot.config).expect("a request")
}

async fn story(snapshot: &Snapshot, line: &str, fields: &[(&'static str, &str)], sender: Option<&Sender>) -> Story {
    walk(snapshot, &request(snapshot, line, fields, "127.0.0.1"), sender, false).await
}

fn known(subject: &str, permissions: &[&str]) -> Sender {
    let permissions = permissions.iter().map(|permission| (*permission).to_owned()).collect();
    Sender::Known { subject: subject.to_owned(), permissions, roles: Vec::new() }
}

#[tokio::test]
async fn a_request_ends_as_its_route_says() {
    let snapshot = snapshot();
    // Request, then outcome, status, code and route, and where it goes.
    let cases = [
        ("GET /open/x", "proxied", None, None, Some("open"), "api"),
        ("GET /open/../open/x/", "proxied", None, None, Some("open"), "api"),
        ("GET /open/form", "refused", Some(405), Some("method_not_allowed"), None, ""),
        ("GET https://x.a.test/open/form", "proxied", None, None, Some("below"), "next"),
        ("GET https://WWW.a.test:8443/open/form", "proxied", None, None, Some("host"), "next"),
        ("GET /nowhere", "refused", Some(404), Some("route_not_found"), None, ""),
        ("GET /open/%2f", "refused", Some(400), Some("path_invalid"), None, ""),
        ("GET /known", "refused", Some(401), Some("token_missing"), Some("known"), ""),
        ("GET /gone", "answered", Some(410), None, Some("gone"), ""),
        ("GET /old/a?b=c", "redirected", Some(308), None, Some("old"), ""),
        ("GET http://a.test/open/x", "redirected", Some(308), None, None, ""),
        ("GET http://a.test:8081/open/x", "proxied", None, None, Some("open"), "api"),
    ];
    for (line, outcome, status, code, route, to) in cases {
        let story = story(&snapshot, line, &[], None).await;
        let ends = (story.outcome, story.status, story.code, story.route.as_deref(), story.to.join(","));
        assert_eq!(ends, (outcome, status, code, route, to.to_owned()), "{line}:\n{story}");
        assert_eq!(story.is_well(), outcome != "refused", "{line}");
    }
    let denied = walk(&snapshot, &request(&snapshot, "GET /open/x", &[], "192.0.2.1"), None, false).await;
    assert_eq!((denied.code, denied.route), (Some("address_forbidden"), None));
    let forwarded = request(&snapshot, "GET /open/x", &[("x-forwarded-for", "192.0.2.1")], "10.0.0.1");
    assert_eq!(walk(&snapshot, &forwarded, None, false).await.code, Some("address_forbidden"));
}

#[tokio::test]
async fn callers_are_taken_for_granted_and_credentials_are_not() {
    let snapshot = snapshot();
    let reader = known("ann", &["read"]);
    let told = story(&snapshot, "GET /known", &[("x-tenant", "hunter2")], Some(&reader)).await;
    assert_eq!((told.outcome, told.subject.as_deref()), ("proxied", Some("ann")));
    assert_eq!(told.sent["x-auth-subject"], "ann");
    let text = told.to_string();
    assert!(text.contains("who: identity.key_or_subject subject:ann and header.x-tenant (not shown)"), "{text}");
    let told = story(&snapshot, "GET /known", &[], Some(&known("ann", &["write"]))).await;
    assert_eq!((told.status, told.code), (Some(403), Some("permission_missing")));
    for (path, code) in [("/users/ann", None), ("/users/bob", Some("not_owner"))] {
        let told = story(&snapshot, &format!("GET {path}"), &[], Some(&reader)).await;
        assert_eq!(told.code, code, "{told}");
    }
    // By claims, as the scheme reads them.
    for (claims, code) in [
        (r#"{"sub":"ann","scope":"read"}"#, None),
        (r#"{"sub":"ann","iss":"https://a.test/","scope":"write"}"#, Some("permission_missing")),
        (r#"{"sub":"ann","iss":"https://b.test/","scope":"read"}"#, Some("token_issuer_invalid")),
        (r#"{"scope":"read"}"#, Some("token_claim_invalid")),
    ] {
        let sender = Sender::of_claims(claims).expect("claims");
        let told = story(&snapshot, "GET /known", &[], Some(&sender)).await;
        assert_eq!(told.code, code, "{claims}: {told}");
    }
    assert!(Sender::of_claims("[]").is_err() && Sender::of_claims("{\"a\":1,\"a\":2}").is_err());
    // Its keys are at an address that nobody asks here.
    let told = story(&snapshot, "GET /known", &[("authorization", "Bearer a.b.c")], None).await;
    assert_eq!((told.outcome, told.status, told.is_well()), ("undecided", None, false));
    assert!(told.detail.is_some_and(|why| why.contains("tokens has to fetch its keys")));
}

#[tokio::test]
async fn what_goes_out_is_told_and_secrets_are_not() {
    let snapshot = snapshot();
    let fields = [("authorization", "Bearer hunter2"), ("cookie", "hunter2=1"), ("x-real-ip", "6.6.6.6")];
    let told = story(&snapshot, "GET /open/x?q=1", &fields, None).await;
    assert_eq!(told.sent["x-upstream-key"], "hunter2", "the upstream would get it");
    let (text, json) = (told.to_string(), serde_json::json!(told).to_string());
    assert!(text.contains("sets x-upstream-key: (not shown)") && text.contains("takes away x-real-ip"), "{text}");
    assert!(!text.contains("hunter2") && !json.contains("hunter2"), "{text}\n{json}");

    let told = story(&snapshot, "GET /split/x?q=1", &[("x-user", "ann")], None).await;
    assert_eq!((told.to.len(), told.target.as_deref()), (1, Some("/v2/x?q=1")), "{told}");
    let again = story(&snapshot, "GET /split/y", &[("x-user", "ann")], None).await;
    assert_eq!(told.to, again.to, "the same caller comes to the same side");
    let drawn = story(&snapshot, "GET /split/x", &[], None).await;
    assert_eq!(drawn.to, ["api", "next"], "drawn for");

    let told = story(&snapshot, "GET /gone", &[], None).await;
    assert_eq!(told.sent["x-why"], "moved");
}

#[tokio::test]
async fn what_is_about_the_clients_connection_stays_behind() {
    let snapshot = snapshot();
    let fields = [
        ("connection", "Upgrade, X-Foo, a b"),
        ("x-foo", "1"),
        ("te", "trailers"),
        ("upgrade", "WebSocket"),
        ("x-bar", "1"),
    ];
    let told = story(&snapshot, "GET /open/x", &fields, None).await;
    let text = told.to_string();
    for name in ["connection", "x-foo", "te", "upgrade"] {
        assert!(!told.sent.contains_key(name), "{name}:\n{text}");
    }
    assert!(text.contains("takes away connection, x-foo, te, upgrade\n") && told.sent["x-bar"] == "1", "{text}");
    let told = story(&snapshot, "GET /socket", &fields, None).await;
    assert!(told.sent["connection"] == "Upgrade" && told.sent["upgrade"] == "websocket", "{told}");
    assert!(!told.sent.contains_key("x-foo"), "{told}");
}

#[tokio::test]
async fn addresses_listeners_and_names_are_told_as_they_are() {
    let snapshot = snapshot();
    let near = story(&snapshot, "GET /socket", &[], None).await.to_string();
    assert!(near.contains("allow_from of socket names it"), "{near}");
    let far = walk(&snapshot, &request(&snapshot, "GET /socket", &[], "203.0.113.7"), None, false).await;
    assert_eq!(far.code, Some("address_forbidden"));
    assert!(far.to_string().contains("allow_from of socket does not name it"), "{far}");
    let sender = Sender::of_claims("{\"sub\":\"m\u{fc}ller\",\"scope\":\"read \u{fc}ben\"}").expect("claims");
    let text = story(&snapshot, "GET /known", &[], Some(&sender)).await.to_string();
    assert!(text.contains("m\u{fc}ller by jwt, permissions: read \u{fc}ben, roles: none"), "{text}");
    assert!(!text.contains("no listener takes that"), "{text}");
    let (_, rest) = FILE.split_once("upstreams:").expect("they are there");
    let plain = format!("version: 1\nlisteners: {{ b: {{ bind: \"127.0.0.1:1\" }} }}\nupstreams:{rest}");
    let text = story(&snapshot_of(&plain), "GET https://a.test/open/x", &[], None).await.to_string();
    assert!(text.contains("by TLS\n           no listener takes that"), "{text}");
}

#[tokio::test]
async fn why_it_is_not_another_route_is_told() {
    let snapshot = snapshot();
    let text = story(&snapshot, "GET https://x.a.test/open/form", &[], None).await.to_string();
    for line in [
        "route      below: host *.a.test, path /open/*, methods *",
        "not host: its host is www.a.test",
        "not open_post: its methods are POST",
        "not open: a more specific one decides",
        "not for another path: ",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_path_alone_comes_by_tls_where_it_is_spoken() {
    let snapshot = snapshot();
    for (line, door) in [
        ("GET /", Door::Tls),
        ("GET https://a.test/", Door::Tls),
        ("GET http://a.test/", Door::Redirect(8443)),
        ("GET http://a.test:8081/", Door::Plain),
    ] {
        assert_eq!(request(&snapshot, line, &[], "127.0.0.1").door, door, "{line}");
    }
    let named = request(&snapshot, "GET https://a.test/", &[("host", "b.test")], "127.0.0.1");
    assert_eq!(named.head().host(), Some("b.test"), "a field counts more than the URL");
}

#[test]
fn the_table_has_the_most_specific_first() {
    let config = config::parse("f.yaml", FILE).expect("a sound file");
    let table = routes::table(&config);
    let ids: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let sorted = ["ID", "host", "below", "gone", "known", "open_post", "socket", "split", "mine", "open", "old"];
    assert_eq!(ids, sorted, "{table}");
    let json = routes::json(&config);
    assert_eq!(json[0]["host"], "www.a.test");
    assert_eq!(json[6]["to"], serde_json::json!(["api 1", "next 1"]), "{json}");
    assert_eq!(json[3]["require"], "read");
}

#[tokio::test]
async fn cases_are_held_against_what_would_happen() {
    let results = cases::run("f.yaml", &snapshot()).await;
    let lines: Vec<&str> = results.text.lines().collect();
    assert_eq!(results.failed, 2, "{}", results.text);
    let [open, missing, known, undecided, count] = lines[..] else { panic!("{}", results.text) };
    let first = FILE.lines().position(|line| line == "tests:").expect("it is there") + 2;
    assert_eq!(open, format!("ok      f.yaml:{first}:13: GET /open/x"));
    assert!(missing.starts_with("ok      "), "{missing}");
    let place = format!("FAILED  f.yaml:{}:13: GET /known: ", first + 2);
    assert!(
        known.starts_with(&place) && known.contains("expected status 403, but it is proxied /known to api"),
        "{known}"
    );
    assert!(known.contains("expected another x-auth-subject: x-auth-subject: test"), "{known}");
    assert!(undecided.starts_with("FAILED  ") && undecided.contains("say who it is by `as`"), "{undecided}");
    assert_eq!(count, "2 of 4 passed");
    let (none, _) = FILE.split_once("tests:").expect("they are there");
    let results = cases::run("f.yaml", &snapshot_of(none)).await;
    assert_eq!((results.text.as_str(), results.failed), ("f.yaml has no tests\n", 0));
}
