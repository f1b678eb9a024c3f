//! Answers: what the gateway says without asking an upstream, after the same questions as ever.
//!
//! Read next: `rewrite.rs`.

use http::Method;

use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, listeners};
use crate::harness::{client, wire};

const ROUTES: &str = "\
limits:
  two: { by: client.ip, rate: 2/h }
routes:
  - { id: robots, path: /robots.txt, auth: none, respond: { body: \"User-agent: *\\n\", headers: { Cache-Control: max-age=60 } } }
  - { id: teapot, path: /pot, methods: [GET], auth: none, respond: { status: 418, body: '{}', content_type: application/json } }
  - { id: nothing, path: /nothing, auth: none, respond: { status: 204 } }
  - { id: secret, path: /secret, auth: [tokens], require: [read], limits: [two], respond: { body: told } }
  - { id: old, path: /old/*, auth: none, redirect: { to: \"https://new.example.org/base/\" } }
  - { id: seen, path: /seen, auth: none, redirect: { to: \"https://new.example.org/page?a=1#b\", status: 303, keep_path: false } }
  - { id: member, path: /member/*, auth: [query], require: [], redirect: { to: \"http://new.example.org:8080\", status: 302 } }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_answer_is_given_after_the_same_questions() {
    let gateway = started(HTTP, &["http"]).await;
    let client = client::plain();
    let answer = client::send(client.get(gateway.url("/robots.txt"))).await;
    answer.expect_status(200);
    assert_eq!(&answer.body[..], b"User-agent: *\n");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "max-age=60");
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    let head = client::send(client.head(gateway.url("/robots.txt"))).await;
    head.expect_status(200);
    assert!(head.body.is_empty() && head.header("content-length") == "14", "{head:?}");
    let teapot = client::send(client.get(gateway.url("/pot"))).await;
    teapot.expect_status(418);
    assert_eq!((teapot.header("content-type"), &teapot.body[..]), ("application/json", &b"{}"[..]));
    client::send(client.post(gateway.url("/pot"))).await.expect_problem(405, "method_not_allowed");
    let nothing = client::send(client.get(gateway.url("/nothing"))).await;
    nothing.expect_status(204);
    assert!(!nothing.headers.contains_key("content-length"), "{nothing:?}");

    let secret = || client.get(gateway.url("/secret"));
    client::send(secret()).await.expect_problem(401, "token_missing");
    let token = token_of("u-1", "read").signed_by(&KEYS.es256);
    let told = client::send(secret().bearer_auth(&token)).await;
    told.expect_status(200);
    assert!(told.header("ratelimit").contains("\"two\";r=0"), "{told:?}");
    client::send(secret().bearer_auth(&token)).await.expect_problem(429, "rate_limited");

    let line = gateway.access_log("the answer", |line| line["path"] == "/secret" && line["status"] == 200).await;
    assert_eq!(line["outcome"], "answered");
    assert_eq!(line["subject"], "u-1");
    assert!(line.get("upstream").is_none(), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_reads_costs_not_the_connection() {
    let gateway = started(HTTP, &["http"]).await;
    let body = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let get = "GET /pot HTTP/1.1\r\nHost: a.test\r\n";
    let with_body = format!("{get}Content-Length: {}\r\n\r\n{body}", body.len());
    let last = format!("{get}Connection: close\r\n\r\n");
    let answers = wire::converse(gateway.address("http"), &[&with_body, &with_body, &last]).await;
    assert_eq!(answers.matches("HTTP/1.1 418").count(), 3, "{answers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_sent_where_the_settings_say_and_nowhere_else() {
    let gateway = started(HTTP, &["http"]).await;
    let token = token_of("u-1", "read").signed_by(&KEYS.es256);
    let member = format!("/member/x?a=1&access_token={token}&b=2");
    // The target byte for byte, and what `Location` says.
    let cases: [(&str, u16, &str); 10] = [
        ("/old", 308, "https://new.example.org/base/old"),
        ("/old/x", 308, "https://new.example.org/base/old/x"),
        ("/old/x?q=1&r=%0D%0A", 308, "https://new.example.org/base/old/x?q=1&r=%0D%0A"),
        ("/old/../old//x/%7Ey", 308, "https://new.example.org/base/old/x/~y"),
        ("//evil.test/../old/x", 308, "https://new.example.org/base/old/x"),
        ("/old/%0d%0aSet-Cookie:x", 400, ""),
        ("/old/%5c%5cevil.test", 400, ""),
        ("http://evil.test/old/x", 308, "https://new.example.org/base/old/x"),
        ("/seen?q=1", 303, "https://new.example.org/page?a=1#b"),
        (&member, 302, "http://new.example.org:8080/member/x?a=1&b=2"),
    ];
    for (target, status, location) in cases {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        // An absolute target names its host twice, and both must be the same.
        let host = if target.starts_with("http") { "evil.test" } else { "a.test" };
        let request = request.replace("Host: a.test", &format!("Host: {host}"));
        let answer = wire::ask(gateway.address("http"), request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{target}: closed without an answer"));
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        assert_eq!(answer.header("location"), location, "{target}");
        assert!(!answer.headers.contains_key("set-cookie"), "{target}: {answer:?}");
    }
    let line = gateway.access_log("a redirect", |line| line["path"] == "/seen").await;
    assert_eq!(line["outcome"], "redirected");
    client::send(client::plain().get(gateway.url("/member/x"))).await.expect_problem(401, "token_missing");
    let posted = client::send(client::plain().post(gateway.url("/old/x")).body("a body")).await;
    assert_eq!((posted.status, posted.header("location")), (308, "https://new.example.org/base/old/x"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_answered_in_the_same_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let gateway = started(&listeners, &["http", "https"]).await;
    let address = gateway.address("https");
    let client = client::secure(&authority, "gateway.test", address, false);
    let url = |path: &str| format!("https://gateway.test:{}{path}", address.port());
    for (method, path, status, body, location) in [
        (Method::GET, "/robots.txt", 200, "User-agent: *\n", ""),
        (Method::HEAD, "/robots.txt", 200, "", ""),
        (Method::GET, "/nothing", 204, "", ""),
        (Method::GET, "/old/a/../b?q=1", 308, "", "https://new.example.org/base/old/b?q=1"),
    ] {
        let answer = client::send(client.request(method.clone(), url(path))).await;
        assert_eq!(answer.version, http::Version::HTTP_2);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(&answer.body[..], body.as_bytes(), "{method} {path}");
        assert_eq!(answer.header("location"), location, "{method} {path}");
    }
}

/// A gateway without any upstream: nobody is asked here.
async fn started(listeners: &str, names: &[&str]) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let query = tokens.replace("{ jwt: {", "{ jwt: { query: access_token,");
    let settings = format!("{HEAD}{listeners}auth:\n  tokens: {tokens}\n  query: {query}\n{ROUTES}");
    Gateway::start(&settings, names).await
}
