//! Route: what is matched is what is authorised is what is forwarded.
//!
//! Requests go out byte for byte, because a polite client would clean them first. Read next: `auth.rs`.

use http::StatusCode;

use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{Connection, H2};
use crate::harness::upstream::Echo;
use crate::harness::wire;

/// What becomes of a path.
enum Fate {
    /// The gateway refuses with this status and code.
    Refused(u16, &'static str),
    /// The gateway refuses with a status from 400 to 499; several reasons are good.
    Denied,
    /// The upstream gets exactly this target.
    Reaches(&'static str),
}

/// `/admin` asks for more than `/api/v1` does.
const ROUTES: &str = "\
routes:
  - { id: api, path: /api/v1/*, auth: [tokens], require: [read], to: api }
  - { id: admin, path: /admin/*, auth: [tokens], require: [admin], to: api }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_reaches_a_route_it_is_not_allowed_on() {
    use Fate::{Denied, Reaches, Refused};
    const INVALID: Fate = Refused(400, "path_invalid");
    const FORBIDDEN: Fate = Refused(403, "permission_missing");
    const UNKNOWN: Fate = Refused(404, "route_not_found");
    let cases: [(&str, Fate); 42] = [
        ("/api/v1/models", Reaches("/api/v1/models")),
        ("/admin", FORBIDDEN),
        // Dot segments, plain and encoded.
        ("/api/v1/../admin", UNKNOWN),
        ("/api/v1/../../admin", FORBIDDEN),
        ("/api/v1/%2e%2e/admin", UNKNOWN),
        ("/api/v1/%2e%2e/%2E%2E/admin", FORBIDDEN),
        ("/api/v1/.%2E/%2e./admin/users", FORBIDDEN),
        ("/./admin", FORBIDDEN),
        ("/admin/.", FORBIDDEN),
        ("/admin/x/..", FORBIDDEN),
        ("/../admin", INVALID),
        ("/api/v1/../../../admin", INVALID),
        ("/%2e%2e/admin", INVALID),
        // Empty segments.
        ("//admin", FORBIDDEN),
        ("///admin//", FORBIDDEN),
        ("/admin/", FORBIDDEN),
        ("/api/v1//..//..//admin", Denied),
        // Encoded letters, and letters of another case: paths are case-sensitive (RFC 9110 §4.2.3).
        ("/%61dmin", FORBIDDEN),
        ("/%61%64%6D%69%6e", FORBIDDEN),
        ("/ADMIN", UNKNOWN),
        ("/%41DMIN", UNKNOWN),
        // What one server takes for a separator, and the next does not.
        ("/api/v1/%2fadmin", INVALID),
        ("/api/v1/..%2fadmin", INVALID),
        ("/api/v1/..%2F..%2Fadmin", INVALID),
        ("/api/v1%2f..%2f..%2fadmin", INVALID),
        ("/api/v1/%5cadmin", INVALID),
        ("/api/v1/..%5C..%5Cadmin", INVALID),
        ("/api/v1/..\\..\\admin", Denied),
        ("/\\admin", Denied),
        // What one server cuts off, and the next does not.
        ("/api/v1/..;/admin", INVALID),
        ("/api/v1/..;x=1/..;/admin", INVALID),
        ("/admin;x", INVALID),
        ("/api/v1/query%00", INVALID),
        ("/admin%00.json", INVALID),
        // Percent codes that are none.
        ("/api/v1/%", INVALID),
        ("/api/v1/%2", INVALID),
        ("/api/v1/%zz", INVALID),
        // The absolute form names the same path.
        ("http://gateway.test/admin", Denied),
        // Normal form is what is forwarded; what is encoded twice stays so; the query is the upstream's affair.
        ("/api/v1/%252e%252e/%252e%252e/admin", Reaches("/api/v1/%252e%252e/%252e%252e/admin")),
        ("/api/v1/a//b/./c/../d", Reaches("/api/v1/a/b/d")),
        ("/api/v1/%7Euser", Reaches("/api/v1/~user")),
        ("/api/v1/a?next=/../../admin&x=%2F", Reaches("/api/v1/a?next=/../../admin&x=%2F")),
    ];
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo, ROUTES).await;
    let token = token_of("reader", "read").signed_by(&KEYS.es256);
    for (target, fate) in cases {
        let before = echo.count();
        let answer = wire::ask(gateway.address("http"), &wire::get(target, "gateway.test", &token)).await;
        let answer = answer.unwrap_or_else(|| panic!("{target}: closed without an answer"));
        let reached = echo.seen().split_off(before);
        match fate {
            Refused(status, code) => {
                println!("{target}");
                answer.expect_problem(status, code);
                assert!(reached.is_empty(), "{target}: refused, and yet forwarded: {reached:?}");
            }
            Denied => {
                assert!((400..500).contains(&answer.status), "{target}: {answer:?}");
                assert!(reached.is_empty(), "{target}: refused, and yet forwarded: {reached:?}");
            }
            Reaches(expected) => {
                answer.expect_status(200);
                let targets: Vec<&str> = reached.iter().map(|seen| seen.target.as_str()).collect();
                assert_eq!(targets, [expected], "{target}");
            }
        }
    }
    // The upstream of an attacker's dreams decodes once more and ignores case: it has still seen nothing of `/admin`.
    for seen in echo.seen() {
        let path = seen.path().to_ascii_lowercase().replace("%61", "a");
        assert!(!path.starts_with("/admin"), "{}", seen.target);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_gets_the_normal_form_forwarded() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo, ROUTES).await;
    let token = token_of("root", "read admin").signed_by(&KEYS.es256);
    for (target, forwarded) in [
        ("/api/v1/../../admin/users", "/admin/users"),
        ("/%61dmin", "/admin"),
        ("//admin//users", "/admin/users"),
        ("/admin/%2e/users", "/admin/users"),
    ] {
        let answer = wire::ask(gateway.address("http"), &wire::get(target, "gateway.test", &token)).await;
        answer.unwrap_or_else(|| panic!("{target}: closed without an answer")).expect_status(200);
        assert_eq!(echo.last().target, forwarded, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_paths_are_read_the_same_way() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!("{HEAD}{listeners}{upstream}auth:\n  tokens: {tokens}\n{ROUTES}");
    let gateway = Gateway::start(&settings, &["https"]).await;
    let token = token_of("reader", "read").signed_by(&KEYS.es256);
    let opened = Connection::open(gateway.address("https"), "gateway.test", &authority, &H2).await;
    let mut connection = opened.expect("the gateway speaks HTTP/2");
    for (target, status) in [
        ("/api/v1/%2e%2e/../admin", StatusCode::FORBIDDEN),
        ("//admin", StatusCode::FORBIDDEN),
        ("/%61dmin", StatusCode::FORBIDDEN),
        ("/api/v1/..%2f..%2fadmin", StatusCode::BAD_REQUEST),
        ("/api/v1/..;/admin", StatusCode::BAD_REQUEST),
        ("/api/v1/a/../b", StatusCode::OK),
    ] {
        let answer = connection.get(target, Some(&token)).await;
        let (answered, body) = answer.unwrap_or_else(|lost| panic!("{target}: {lost}"));
        assert_eq!(answered, status, "{target}: {body:?}");
    }
    let targets: Vec<String> = echo.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/api/v1/b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_match_exactly_or_by_wildcard() {
    let echo = Echo::start().await;
    let routes = "\
routes:
  - { id: wildcard, host: \"*.example.test\", path: /*, auth: [tokens], require: [], to: api }
  - { id: exact, host: api.example.test, path: /*, auth: [tokens], require: [], to: api }
";
    let gateway = guarded_gateway(&echo, routes).await;
    let cases = [
        ("api.example.test", Some("exact")),
        ("API.Example.TEST", Some("exact")),
        ("api.example.test:8443", Some("exact")),
        ("other.example.test", Some("wildcard")),
        ("OTHER.EXAMPLE.TEST:80", Some("wildcard")),
        ("example.test", None),
        ("evilexample.test", None),
        ("api.example.test.evil.test", None),
        ("elsewhere.test", None),
    ];
    for (host, route) in cases {
        println!("{host}");
        // Nobody shows a token: the refusal names the route, which is what is asked here.
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = wire::ask(gateway.address("http"), request.as_bytes()).await.expect("an answer");
        match route {
            Some(route) => assert_eq!(answer.expect_problem(401, "token_missing")["route"], route, "{host}"),
            None => drop(answer.expect_problem(404, "route_not_found")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_specific_route_wins_whatever_the_order() {
    let echo = Echo::start().await;
    let mut lines = [
        "  - { id: all, path: /*, auth: [tokens], require: [], to: api }",
        "  - { id: api, path: /api/*, auth: [tokens], require: [], to: api }",
        "  - { id: deep, path: /api/v1/*, auth: [tokens], require: [], to: api }",
        "  - { id: exact, path: /api/v1/query, auth: [tokens], require: [], to: api }",
        "  - { id: post, path: /api/v1/query, methods: [POST], auth: [tokens], require: [], to: api }",
        "  - { id: host, host: a.test, path: /*, auth: [tokens], require: [], to: api }",
    ];
    let cases = [
        ("GET", "b.test", "/", "all"),
        ("GET", "b.test", "/apix", "all"),
        ("GET", "b.test", "/api", "api"),
        ("GET", "b.test", "/api/v2", "api"),
        ("GET", "b.test", "/api/v1", "deep"),
        ("GET", "b.test", "/api/v1/query/x", "deep"),
        ("GET", "b.test", "/api/v1/query", "exact"),
        ("POST", "b.test", "/api/v1/query", "post"),
        ("POST", "a.test", "/api/v1/query", "host"),
    ];
    for _ in 0..2 {
        let gateway = guarded_gateway(&echo, &format!("routes:\n{}\n", lines.join("\n"))).await;
        for (method, host, path, route) in cases {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let answer = wire::ask(gateway.address("http"), request.as_bytes()).await.expect("an answer");
            let problem = answer.expect_problem(401, "token_missing");
            assert_eq!(problem["route"], route, "{method} {host}{path}");
        }
        lines.reverse();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewritten_path_keeps_its_host_over_http2() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let settings = format!("{HEAD}{listeners}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::start(&settings, &["https"]).await;
    let opened = Connection::open(gateway.address("https"), "gateway.test", &authority, &H2).await;
    let mut connection = opened.expect("a connection");
    for (sent, forwarded) in
        [("/a/../b?q=1", "/b?q=1"), ("/.well-known/%6Aw", "/.well-known/jw"), ("/a%20b", "/a%20b")]
    {
        let (status, _) = connection.get(sent, None).await.expect("an answer");
        assert_eq!(status, StatusCode::OK);
        let seen = echo.last();
        assert_eq!(seen.target, forwarded);
        assert_eq!(seen.values("host"), ["gateway.test"], "{sent}");
        assert_eq!(seen.values("x-forwarded-host"), ["gateway.test"], "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_no_route_has_is_told_which_ones_there_are() {
    let echo = Echo::start().await;
    let routes = "\
routes:
  - { id: ask, path: /query, methods: [POST], auth: none, to: api }
  - { id: change, path: /query, methods: [PUT], auth: none, to: api }
";
    let gateway = guarded_gateway(&echo, routes).await;
    let request = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let answer = wire::ask(gateway.address("http"), request("GET", "/query").as_bytes()).await.expect("an answer");
    answer.expect_problem(405, "method_not_allowed");
    let mut allowed: Vec<&str> = answer.header("allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["POST", "PUT"]);
    let answer = wire::ask(gateway.address("http"), request("GET", "/other").as_bytes()).await.expect("an answer");
    answer.expect_problem(404, "route_not_found");
    assert_eq!(echo.count(), 0);
    let answer = wire::ask(gateway.address("http"), request("POST", "/query").as_bytes()).await.expect("an answer");
    answer.expect_status(200);
}

/// A gateway with the scheme `tokens` and the upstream `api`.
async fn guarded_gateway(echo: &Echo, routes: &str) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    Gateway::plain(&format!("{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\n{routes}")).await
}
