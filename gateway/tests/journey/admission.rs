//! Admission: may it come in? Malformed requests, the client's address, the limit by address, the size of a body.
//!
//! Read next: `auth.rs`.

use bytes::Bytes;
use testkit::wait::{PATIENCE, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme};
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{self, H1};
use crate::harness::upstream::Echo;
use crate::harness::{client, wire};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_two_readings_is_refused() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{OPEN}")).await;
    // Each is taken by some server for another request than by the next one (RFC 9112 §3.2, §6.3, §11.2).
    let cases = [
        ("no Host", "Content-Length: 5", "hello"),
        ("two Hosts", "Host: a.test\r\nHost: b.test\r\nContent-Length: 5", "hello"),
        ("a Host that is none", "Host: a b\r\nContent-Length: 5", "hello"),
        ("two lengths", "Host: a.test\r\nContent-Length: 5\r\nContent-Length: 6", "hello!"),
        ("the same length twice", "Host: a.test\r\nContent-Length: 5\r\nContent-Length: 5", "hello"),
        ("a list of lengths", "Host: a.test\r\nContent-Length: 5, 5", "hello"),
        ("a signed length", "Host: a.test\r\nContent-Length: +5", "hello"),
        ("an unknown coding", "Host: a.test\r\nTransfer-Encoding: chunkedd", "5\r\nhello\r\n0\r\n\r\n"),
        (
            "a length and a coding",
            "Host: a.test\r\nContent-Length: 15\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a coding and a length",
            "Host: a.test\r\ntransfer-encoding: chunked\r\ncontent-length:15",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        ("a line that ends with LF alone", "Host: a.test\nContent-Length: 5", "hello"),
    ];
    for (what, fields, body) in cases {
        let request = format!("POST /x HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n{body}");
        let answer = wire::ask(gateway.address("http"), request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        answer.expect_problem(400, "request_malformed");
        assert_eq!(echo.count(), 0, "{what}: it reached the upstream");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_becomes_a_request_is_answered_like_others_and_counted() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::start(&format!("{HEAD}{listeners}{upstream}{OPEN}"), &["http", "https"]).await;
    let cases = [
        ("no HTTP", "hello\r\n\r\n", 400, "request_malformed"),
        ("a folded line", "GET /x HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n", 400, "request_malformed"),
        ("a space before a colon", "GET /x HTTP/1.1\r\nHost : a.test\r\n\r\n", 400, "request_malformed"),
        ("another version", "GET /x HTTP/2.0\r\nHost: a.test\r\n\r\n", 400, "request_malformed"),
        ("a tunnel", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n", 405, "method_not_allowed"),
    ];
    for (what, request, status, code) in cases {
        let answer = wire::ask(gateway.address("http"), request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        answer.expect_problem(status, code);
        assert!(answer.header("server").is_empty() && !answer.header("date").is_empty(), "{what}: {answer:?}");
    }
    // The same through TLS, behind a request that is one.
    let stream = tls::connect(gateway.address("https"), "gateway.test", &authority, &H1).await;
    let mut stream = stream.expect("a TLS connection");
    let said = within("both are answered", PATIENCE, async {
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await.expect("sent");
        let mut said = Vec::new();
        while !said.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut said).await.expect("an answer"), 0, "closed");
        }
        stream.write_all(b"hello\r\n\r\n").await.expect("sent");
        // How the connection is closed is no part of what was said.
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    })
    .await;
    assert!(said.starts_with("HTTP/1.1 200") && said.matches("HTTP/1.1 400").count() == 1, "{said}");
    assert!(said.contains("request_malformed") && !said.contains("Pingora"), "{said}");
    gateway.until_metrics_say("gateway_connections_refused_total{reason=\"malformed_head\"} 6").await;
    assert_eq!(echo.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_in_chunks_is_refused_and_told() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{OPEN}")).await;
    let head = "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["zz\r\nxx\r\n0\r\n\r\n", "2\r\nxxx\r\n0\r\n\r\n", "2;a=\"\r\n\"\r\nxx\r\n0\r\n\r\n"] {
        let answer = wire::ask(gateway.address("http"), format!("{head}{body}").as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{body:?}: closed without an answer"));
        answer.expect_problem(400, "request_malformed");
    }
    assert_eq!(echo.count(), 0, "nobody is sent half a body as a whole one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_costs_neither_the_answer_nor_the_connection() {
    let echo = Echo::start().await;
    let gateway = limited_gateway(&echo, "1/min", "none").await;
    // Both requests go out on one connection; the body of the refused one must not be taken for the next request.
    let body = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let post = format!("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let last = "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let answers = wire::converse(gateway.address("http"), &[&post, &post, last]).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 429").count(), 2, "{answers}");
    assert_eq!(echo.seen().iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), ["/x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_too_long_is_refused() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{OPEN}")).await;
    let answer = client::send(client::plain().get(gateway.url(&format!("/x?{}", "a".repeat(9000))))).await;
    answer.expect_problem(414, "target_too_long");
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolute_target_is_matched_and_forwarded_by_its_path() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{OPEN}")).await;
    let request = "GET http://a.test/x/../y?q=1 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    let answer = wire::ask(gateway.address("http"), request.as_bytes()).await.expect("an answer");
    answer.expect_status(200);
    assert_eq!(echo.last().target, "/y?q=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_forwarded_for_does_not_change_who_the_client_is() {
    let echo = Echo::start().await;
    let gateway = limited_gateway(&echo, "3/min", "none").await;
    // Every request claims another address; the limit counts the one they all come from.
    for index in 0..4 {
        let forged = client::plain().get(gateway.url("/x")).header("X-Forwarded-For", format!("203.0.113.{index}"));
        let answer = client::send(forged).await;
        if index < 3 {
            answer.expect_status(200);
        } else {
            assert_eq!(answer.expect_problem(429, "rate_limited")["policy"], "per_ip");
        }
    }
    let addresses: Vec<String> = echo.seen().iter().map(|seen| seen.values("x-forwarded-for").join("|")).collect();
    assert_eq!(addresses, ["127.0.0.1"; 3], "what the client claims is replaced, not completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_proxy_the_rightmost_stranger_is_the_client() {
    let echo = Echo::start().await;
    let gateway = limited_gateway(&echo, "2/min", "none").await;
    let proxy = client::plain_from(9);
    // What the proxy appended counts, what stood before it may be made up; the proxy's own address is skipped.
    let cases = [
        ("203.0.113.7, 198.51.100.4", "198.51.100.4", 200),
        ("192.0.2.1, 198.51.100.4, 127.0.0.9", "198.51.100.4", 200),
        ("198.51.100.4", "198.51.100.4", 429),
        ("198.51.100.5", "198.51.100.5", 200),
        ("2001:db8::5", "2001:db8::5", 200),
    ];
    for (index, (forwarded, client, status)) in cases.into_iter().enumerate() {
        let path = format!("/case/{index}");
        let request = proxy.get(gateway.url(&path)).header("X-Forwarded-For", forwarded);
        client::send(request).await.expect_status(status);
        let line = gateway.access_log(&format!("case {index}"), |line| line["path"] == path.as_str()).await;
        assert_eq!(line["client"], client, "{forwarded}");
        if status == 200 {
            let told = echo.last().values("x-forwarded-for").join(", ");
            assert!(told.contains(client), "{forwarded}: the upstream is told {told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_by_address_comes_before_authentication() {
    let echo = Echo::start().await;
    let gateway = limited_gateway(&echo, "3/min", "[tokens], require: []").await;
    // Guessing tokens is limited as well: the fourth guess is not even looked at.
    for guess in 0..4 {
        let answer = client::send(client::plain().get(gateway.url("/x")).bearer_auth(format!("guess-{guess}"))).await;
        if guess < 3 {
            answer.expect_problem(401, "token_malformed");
        } else {
            answer.expect_problem(429, "rate_limited");
        }
    }
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    const BODY_MAX: usize = 1024;
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let routes = "routes:\n  - { id: small, path: /*, auth: none, body_max: 1KiB, to: api }\n";
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{routes}")).await;
    let post = || client::plain().post(gateway.url("/x"));
    client::send(post().body(vec![b'x'; BODY_MAX])).await.expect_status(200);
    let before = echo.count();
    client::send(post().body(vec![b'x'; BODY_MAX + 1])).await.expect_problem(413, "body_too_large");
    let pieces = (0..4).map(|_| Ok::<Bytes, std::io::Error>(Bytes::from(vec![b'x'; BODY_MAX])));
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    client::send(post().body(streamed)).await.expect_problem(413, "body_too_large");
    assert_eq!(echo.count(), before, "no upstream has taken such a body for complete");
}

/// A gateway whose one route counts by address.
async fn limited_gateway(echo: &Echo, rate: &str, auth: &str) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!(
        "{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\n\
         limits:\n  per_ip: {{ by: client.ip, rate: {rate} }}\n\
         routes:\n  - {{ id: all, path: /*, auth: {auth}, limits: [per_ip], to: api }}\n"
    );
    Gateway::plain(&settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_or_refused() {
    let echo = Echo::start().await;
    let gateway = limited_gateway(&echo, "1/min", "none").await;
    let head =
        "POST /x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    stream.write_all(head.as_bytes()).await.expect("the connection is there");
    let mut told = Vec::new();
    while !told.ends_with(b"\r\n\r\n") {
        told.push(within("to be told to go on", PATIENCE, stream.read_u8()).await.expect("the connection is there"));
    }
    assert!(told.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&told));
    stream.write_all(b"hello").await.expect("the connection is there");
    let mut answer = String::new();
    within("the answer", PATIENCE, stream.read_to_string(&mut answer)).await.expect("the connection is there");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(echo.last().body, "hello");

    let refused = wire::ask(gateway.address("http"), head.as_bytes()).await.expect("an answer, without the body");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(echo.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_an_underscore_go_as_far_as_the_settings_say() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = |policy: &str| {
        let head = HEAD.replace("server: {", &format!("server: {{ underscore_headers: {policy},"));
        format!("{head}{HTTP}{upstream}{OPEN}")
    };
    let gateway = Gateway::plain(&settings("drop")).await;
    let send = async || {
        let request =
            client::plain().get(gateway.url("/x")).header("my_field", "mine").header("x_auth_subject", "root");
        client::send(request).await
    };
    let mine = |echo: &Echo| echo.last().values("my_field").len();
    send().await.expect_status(200);
    assert_eq!(mine(&echo), 0);
    gateway.rewrite(&settings("pass"));
    gateway.reload().await.expect_status(200);
    send().await.expect_status(200);
    assert_eq!(mine(&echo), 1);
    assert!(echo.last().values("x_auth_subject").is_empty(), "a server could take it for the gateway's");
    gateway.rewrite(&settings("refuse"));
    gateway.reload().await.expect_status(200);
    send().await.expect_problem(400, "request_malformed");
}
