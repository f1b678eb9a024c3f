//! Rewrite: under what name and path an upstream is asked, and what is said besides, to it and to the client.
//!
//! Read next: `compression.rs`.

use http::HeaderValue;
use http_body_util::Full;

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::server::{Reply, Server};
use crate::harness::settings::{HEAD, HTTP, Pool, listeners, upstream};
use crate::harness::upstream::Echo;
use crate::harness::wire;

const ROUTES: &str = "\
routes:
  - { id: strip, path: /api/*, auth: none, rewrite: { strip_prefix: /api }, to: api }
  - { id: swap, path: /v1/*, auth: none, rewrite: { strip_prefix: /v1, add_prefix: /v2/x }, to: api }
  - { id: add, path: /add/*, auth: none, rewrite: { add_prefix: /under }, to: api }
  - { id: host, path: /host/*, auth: none, rewrite: { host: \"internal.test:8080\" }, to: api }
  - id: rules
    path: /rules
    auth: none
    to: api
    request_headers: { set: { X-Tenant: one, Authorization: Basic abc }, remove: [Cookie, X-Secret] }
  - { id: rest, path: /*, auth: none, to: api }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_is_asked_by_another_path() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{ROUTES}")).await;
    // What is sent, what arrives, the host it is sent to, and the prefix that was taken off.
    let cases = [
        ("/api", "/", "a.test", "/api"),
        ("/api/", "/", "a.test", "/api"),
        ("/api/users?q=/api", "/users?q=/api", "a.test", "/api"),
        ("/api?q=1", "/?q=1", "a.test", "/api"),
        ("/api//a/../b/%7Ec", "/b/~c", "a.test", "/api"),
        ("/v1/users", "/v2/x/users", "a.test", "/v1"),
        ("/v1", "/v2/x", "a.test", "/v1"),
        ("/add/a?b", "/under/add/a?b", "a.test", ""),
        ("/host/a", "/host/a", "internal.test:8080", ""),
        ("/apix", "/apix", "a.test", ""),
        ("/other/api/x", "/other/api/x", "a.test", ""),
        ("http://a.test/api/x", "/x", "a.test", "/api"),
    ];
    for (sent, arrives, host, prefix) in cases {
        // What a client says of a prefix is taken away.
        let request =
            format!("GET {sent} HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Prefix: /mine\r\nConnection: close\r\n\r\n");
        let answer = wire::ask(gateway.address("http"), request.as_bytes()).await;
        answer.unwrap_or_else(|| panic!("{sent}: closed without an answer")).expect_status(200);
        let seen = echo.last();
        assert_eq!(seen.target, arrives, "{sent}");
        assert_eq!(seen.values("host"), [host], "{sent}");
        assert_eq!(seen.values("x-forwarded-host"), ["a.test"], "{sent}");
        assert_eq!(seen.values("x-forwarded-prefix").join(""), prefix, "{sent}");
    }
    let line = gateway.access_log("the client's path", |line| line["route"] == "swap").await;
    assert_eq!(line["path"], "/v1/users", "the log tells what the client asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_requests_are_rewritten_too() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::start(&format!("{HEAD}{listeners}{upstream}{ROUTES}"), &["http", "https"]).await;
    let address = gateway.address("https");
    let client = client::secure(&authority, "gateway.test", address, false);
    let own = format!("gateway.test:{}", address.port());
    for (sent, arrives, host) in [
        ("/api/users?q=1", "/users?q=1", own.as_str()),
        ("/v1/users", "/v2/x/users", own.as_str()),
        ("/host/a", "/host/a", "internal.test:8080"),
    ] {
        let answer = client::send(client.get(format!("https://{own}{sent}"))).await;
        answer.expect_status(200);
        assert_eq!(answer.version, http::Version::HTTP_2);
        let seen = echo.last();
        assert_eq!(seen.target, arrives, "{sent}");
        assert_eq!(seen.values("host"), [host], "{sent}");
        assert_eq!(seen.values("x-forwarded-host"), [own.as_str()], "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_told_what_the_route_says() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{ROUTES}")).await;
    let request = client::plain().get(gateway.url("/rules"));
    let request = request.header("X-Tenant", "mine").header("X-Tenant", "other").header("X-Secret", "s");
    client::send(request.header("Cookie", "a=1").header("X-Kept", "1")).await.expect_status(200);
    let seen = echo.last();
    assert_eq!(seen.values("x-tenant"), ["one"]);
    assert_eq!(seen.values("authorization"), ["Basic abc"]);
    assert_eq!(seen.values("x-kept"), ["1"]);
    assert!(seen.values("cookie").is_empty() && seen.values("x-secret").is_empty(), "{seen:?}");
    assert!(!gateway.said().contains("Basic abc"), "what is set may be a credential");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_told_what_the_settings_say() {
    let server = Server::start(|_| async { talkative() }).await;
    let upstream = upstream(&Pool::of(&[server.address]));
    let routes = "\
routes:
  - { id: plain, path: /plain, auth: none, to: api }
  - id: rules
    path: /rules
    auth: none
    to: api
    response_headers: { remove: [X-Debug], set: { Cache-Control: no-store }, add: { Link: '</next>; rel=next' } }
";
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{routes}")).await;
    let plain = client::send(client::plain().get(gateway.url("/plain"))).await;
    // By default nobody is told what the upstream is made of.
    assert!(!plain.headers.contains_key("server") && !plain.headers.contains_key("x-powered-by"), "{plain:?}");
    assert_eq!(plain.header("x-debug"), "1");
    assert_eq!(plain.header("cache-control"), "public");
    let ruled = client::send(client::plain().get(gateway.url("/rules"))).await;
    assert!(!ruled.headers.contains_key("x-debug"), "{ruled:?}");
    assert_eq!(ruled.values("cache-control"), ["no-store"]);
    assert_eq!(ruled.values("link"), ["</first>; rel=first", "</next>; rel=next"]);

    let hide = "hide_headers: [X-Debug]\n";
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{hide}{routes}")).await;
    let plain = client::send(client::plain().get(gateway.url("/plain"))).await;
    assert_eq!((plain.header("server"), plain.header("x-debug")), ("upstream/1.0", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_are_told_to_be_careful() {
    let server = Server::start(|_| async { talkative() }).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let upstream = upstream(&Pool::of(&[server.address]));
    let routes = "routes:\n  - { id: plain, path: /plain, auth: none, to: api }\n  \
                  - { id: own, path: /own, auth: none, respond: { body: here } }\n";
    let settings = |security: &str| format!("{HEAD}{listeners}{upstream}{security}{routes}");
    let hsts = "max-age=31536000; includeSubDomains";
    let all_of_them = format!(
        "security_headers: {{ hsts: \"{hsts}\", frame_options: DENY, referrer_policy: no-referrer, override: OVERRIDE }}\n"
    );
    for (replaces, frames) in [("false", "SAMEORIGIN"), ("true", "DENY")] {
        let settings = settings(&all_of_them.replace("OVERRIDE", replaces));
        let gateway = Gateway::start(&settings, &["http", "https"]).await;
        let address = gateway.address("https");
        let secure = client::secure(&authority, "gateway.test", address, false);
        // An upstream's answer, which has a word of its own about frames; a fixed one; a refusal.
        for (path, frames) in [("/plain", frames), ("/own", "DENY"), ("/nowhere", "DENY")] {
            let url = format!("https://gateway.test:{}{path}", address.port());
            let encrypted = client::send(secure.get(url)).await;
            let plain = client::send(client::plain().get(gateway.url(path))).await;
            assert_eq!(encrypted.values("strict-transport-security"), [hsts], "{path}");
            assert!(!plain.headers.contains_key("strict-transport-security"), "{path}: {plain:?}");
            for answer in [encrypted, plain] {
                assert_eq!(answer.values("x-content-type-options"), ["nosniff"], "{path}");
                assert_eq!(answer.values("x-frame-options"), [frames], "{path} {replaces}");
                assert_eq!(answer.values("referrer-policy"), ["no-referrer"], "{path}");
            }
        }
    }
    // Silence is the default.
    let gateway = Gateway::start(&settings(""), &["http", "https"]).await;
    let own = client::send(client::plain().get(gateway.url("/own"))).await;
    assert!(!own.headers.contains_key("x-content-type-options"), "{own:?}");
}

fn talkative() -> Reply {
    let mut reply = Reply::new(Full::from("{}"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("server", "upstream/1.0"),
        ("x-powered-by", "steam"),
        ("x-debug", "1"),
        ("cache-control", "public"),
        ("link", "</first>; rel=first"),
        ("x-frame-options", "SAMEORIGIN"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}
