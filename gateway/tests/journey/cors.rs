//! CORS: browsers ask before they send, and hide what a page may not read.
//!
//! Read next: `answers.rs`.

use http::{HeaderValue, Method};
use http_body_util::Full;

use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::pki::Authority;
use crate::harness::server::{Reply, Server};
use crate::harness::settings::{HEAD, Pool, listeners, upstream};

const APP: &str = "https://app.example.org";

const ROUTES: &str = "\
cors:
  web:
    origins: [\"https://app.example.org\", \"https://*.preview.example.org\"]
    methods: [GET, PUT]
    headers: [Authorization, X-Custom]
    expose: [X-Request-ID, RateLimit]
    credentials: true
    max_age: 5m
  everybody: { origins: [\"*\"] }
limits:
  few: { by: client.ip, rate: 3/h }
routes:
  - { id: api, path: /api/*, methods: [GET, PUT], auth: [tokens], require: [], limits: [few], cors: web, to: api }
  - { id: public, path: /public, auth: none, cors: everybody, to: api }
  - { id: fixed, path: /fixed, methods: [GET], auth: none, cors: web, respond: { body: here } }
  - { id: plain, path: /plain, auth: none, to: api }
  - { id: gone, path: /gone, auth: none, cors: web, to: nobody }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_are_answered_by_the_gateway() {
    let stage = Stage::set().await;
    // What is asked about, and what is said: the status, the origin that may, and the methods that it may.
    let cases: [(&str, &str, &str, u16, &str, &str); 13] = [
        ("/api/x", APP, "GET", 204, APP, "GET, PUT"),
        ("/api/x", APP, "PUT", 204, APP, "GET, PUT"),
        ("/api/../api/x", APP, "GET", 204, APP, "GET, PUT"),
        ("/api/x", "https://a.b.preview.example.org", "GET", 204, "https://a.b.preview.example.org", "GET, PUT"),
        ("/fixed", APP, "GET", 204, APP, "GET, PUT"),
        ("/public", "https://anywhere.test", "DELETE", 204, "*", "DELETE"),
        ("/public", "null", "GET", 204, "*", "GET"),
        ("/api/x", "https://evil.test", "GET", 403, "", ""),
        ("/api/x", "https://app.example.org.evil.test", "GET", 403, "", ""),
        ("/api/x", "null", "GET", 403, "", ""),
        // No route for that method: there is nothing to be allowed.
        ("/api/x", APP, "DELETE", 405, "", ""),
        ("/nowhere", APP, "GET", 404, "", ""),
        // A route without `cors` leaves it to its upstream.
        ("/plain", APP, "GET", 200, "https://upstream.test", ""),
    ];
    for (path, origin, method, status, allowed, methods) in cases {
        let answer = stage.preflight(path, origin, method).await;
        println!("{path} {origin} {method}");
        answer.expect_status(status);
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-methods"), methods, "{answer:?}");
        if status == 403 {
            answer.expect_problem(403, "origin_forbidden");
        }
    }
    let answer = stage.preflight("/api/x", APP, "GET").await;
    assert_eq!(answer.header("access-control-allow-headers"), "authorization, x-custom");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-max-age"), "300");
    assert!(answer.body.is_empty() && !answer.headers.contains_key("content-length"), "{answer:?}");
    for field in ["origin", "access-control-request-method", "access-control-request-headers"] {
        assert!(varies_by(&answer, field), "{field}: {answer:?}");
    }
    let public = stage.preflight("/public", APP, "GET").await;
    assert!(!public.headers.contains_key("access-control-allow-credentials"), "{public:?}");
    let of_api = |line: &serde_json::Value| line["method"] == "OPTIONS" && line["route"] == "api";
    let line = stage.gateway.access_log("a preflight", of_api).await;
    assert_eq!(line["outcome"], "answered");
    assert_eq!(line["status"], 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_refusals_say_who_may_read_them() {
    let stage = Stage::set().await;
    let token = token_of("u-1", "read").signed_by(&KEYS.es256);
    let get = |path: &str| stage.client.get(stage.gateway.url(path));
    // Preflights spend nothing, or the requests below would be too many.
    for _ in 0..5 {
        stage.preflight("/api/x", APP, "GET").await.expect_status(204);
    }
    // The upstream allows everybody; its word is replaced.
    let answer = client::send(get("/api/x").header("origin", APP).bearer_auth(&token)).await;
    answer.expect_status(200);
    assert_eq!(answer.values("access-control-allow-origin"), [APP]);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-expose-headers"), "x-request-id, ratelimit");
    assert!(!answer.headers.contains_key("access-control-max-age"), "{answer:?}");
    assert!(varies_by(&answer, "origin") && varies_by(&answer, "accept"), "{answer:?}");
    // The request of another origin is served: it is the browser that keeps its answer to itself.
    let other = client::send(get("/api/x").header("origin", "https://evil.test").bearer_auth(&token)).await;
    other.expect_status(200);
    assert!(other.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{other:?}");
    assert!(varies_by(&other, "origin"), "{other:?}");
    // Refusals.
    let unknown = client::send(get("/api/x").header("origin", APP)).await;
    unknown.expect_problem(401, "token_missing");
    assert_eq!(unknown.values("access-control-allow-origin"), [APP]);
    let limited = client::send(get("/api/x").header("origin", APP)).await;
    limited.expect_problem(429, "rate_limited");
    assert_eq!(limited.values("access-control-allow-origin"), [APP]);
    assert_eq!(limited.header("access-control-expose-headers"), "x-request-id, ratelimit");
    let gone = client::send(get("/gone").header("origin", APP)).await;
    assert!(gone.status >= 500, "{gone:?}");
    assert_eq!(gone.values("access-control-allow-origin"), [APP]);
    // Nobody's page: nothing is allowed, and a cache is told that another might be.
    let direct = client::send(get("/fixed")).await;
    direct.expect_status(200);
    assert!(varies_by(&direct, "origin") && direct.values("access-control-allow-origin").is_empty(), "{direct:?}");
    let page = client::send(get("/fixed").header("origin", APP)).await;
    assert_eq!(page.values("access-control-allow-origin"), [APP]);
    // A route without `cors` passes on what its upstream says.
    let plain = client::send(get("/plain").header("origin", APP)).await;
    assert_eq!(plain.values("access-control-allow-origin"), ["https://upstream.test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_browsers_are_told_the_same() {
    let stage = Stage::set().await;
    let address = stage.gateway.address("https");
    let client = client::secure(&stage.authority, "gateway.test", address, false);
    let url = |path: &str| format!("https://gateway.test:{}{path}", address.port());
    let preflight = client.request(Method::OPTIONS, url("/api/x")).header("origin", APP);
    let answer = client::send(preflight.header("access-control-request-method", "PUT")).await;
    answer.expect_status(204);
    assert_eq!(answer.version, http::Version::HTTP_2);
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    let refused = client::send(client.get(url("/api/x")).header("origin", APP)).await;
    refused.expect_problem(401, "token_missing");
    assert_eq!(refused.header("access-control-allow-origin"), APP);
}

/// A gateway before an upstream that has opinions of its own about origins.
struct Stage {
    gateway: Gateway,
    authority: Authority,
    client: reqwest::Client,
    /// Ends with the value.
    _upstream: Server,
}

impl Stage {
    async fn set() -> Self {
        let server = Server::start(|_| async { liberal() }).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = Authority::new();
        let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
        let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
        // A port on which nobody listens: it was given back.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let upstream = upstream(&Pool::of(&[server.address]));
        let settings = format!(
            "{HEAD}{listeners}{upstream}  nobody: {}\nauth:\n  tokens: {tokens}\n{ROUTES}",
            Pool::of(&[nobody.expect("a free port")])
        );
        let gateway = Gateway::start(&settings, &["http", "https"]).await;
        Self { gateway, authority, client: client::plain(), _upstream: server }
    }

    async fn preflight(&self, path: &str, origin: &str, method: &str) -> Answer {
        let request = self.client.request(Method::OPTIONS, self.gateway.url(path)).header("origin", origin);
        let request = request.header("access-control-request-method", method);
        client::send(request.header("access-control-request-headers", "authorization")).await
    }
}

fn liberal() -> Reply {
    let mut reply = Reply::new(Full::from("{}"));
    for (name, value) in [
        ("access-control-allow-origin", "https://upstream.test"),
        ("access-control-allow-credentials", "false"),
        ("access-control-max-age", "1"),
        ("content-type", "application/json"),
        ("vary", "Accept"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn varies_by(answer: &Answer, field: &str) -> bool {
    let mut names = answer.values("vary").into_iter().flat_map(|value| value.split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case(field))
}
