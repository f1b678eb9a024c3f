//! Listen: the door. Certificates by name, versions, protocols, header bounds, and what the operator sees of it.
//!
//! Read next: `route.rs`.

use std::process::Command;
use std::time::{Duration, Instant};

use http::Version;
use rustls::{CertificateError, ProtocolVersion};
use serde_json::Value;
use testkit::wait::{PATIENCE, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{self, Hello, TLS12_ONLY, TLS13_ONLY};
use crate::harness::upstream::Echo;
use crate::harness::{client, wire};

/// A gateway with TLS, whose certificates are for these names, before an echo.
async fn secure_gateway(authority: &Authority, names: &[&str], min_version: &str, echo: &Echo) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pairs: Vec<String> = names.iter().map(|name| authority.issue(folder.path(), name)).collect();
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!("{HEAD}{}{upstream}{OPEN}", listeners(&pairs, min_version));
    // Certificates are read before the gateway listens, so the folder may go when this returns.
    Gateway::start(&settings, &["http", "https"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_gets_its_own_certificate_and_strangers_get_the_first() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let gateway = secure_gateway(&authority, &["first.test", "second.test"], "1.2", &echo).await;
    let address = gateway.address("https");
    // The certificate of each name is for that name alone, so a handshake that succeeds shows the choice.
    for name in ["first.test", "second.test", "SECOND.test"] {
        let shaken = tls::connect(address, name, &authority, &tls::H1).await;
        assert!(shaken.is_ok(), "{name}: {:?}", shaken.err());
    }
    // An unknown name, and no name at all (an address is not sent as SNI), get the default.
    for stranger in ["third.test", "127.0.0.1"] {
        let refused = tls::connect(address, stranger, &authority, &tls::H1).await.expect_err("no certificate fits");
        let cause = refused.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) =
            cause
        else {
            panic!("{stranger}: expected a certificate for another name, got {refused:?}");
        };
        assert!(presented.len() == 1 && presented[0].contains("first.test"), "{stranger}: {presented:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_tls_versions_and_both_protocols_are_spoken() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let gateway = secure_gateway(&authority, &["gateway.test"], "1.2", &echo).await;
    let cases: [(Hello, ProtocolVersion, &[u8]); 5] = [
        (Hello { versions: TLS12_ONLY, alpn: &["http/1.1"] }, ProtocolVersion::TLSv1_2, b"http/1.1"),
        (Hello { versions: TLS12_ONLY, alpn: &["h2", "http/1.1"] }, ProtocolVersion::TLSv1_2, b"h2"),
        (Hello { versions: TLS13_ONLY, alpn: &["http/1.1"] }, ProtocolVersion::TLSv1_3, b"http/1.1"),
        (Hello { versions: TLS13_ONLY, alpn: &["h2"] }, ProtocolVersion::TLSv1_3, b"h2"),
        (Hello { versions: TLS13_ONLY, alpn: &["http/1.1", "h2"] }, ProtocolVersion::TLSv1_3, b"h2"),
    ];
    for (hello, version, protocol) in cases {
        let shaken = tls::connect(gateway.address("https"), "gateway.test", &authority, &hello).await;
        let stream = shaken.unwrap_or_else(|error| panic!("{version:?} with {:?}: {error}", hello.alpn));
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.protocol_version(), Some(version));
        assert_eq!(connection.alpn_protocol(), Some(protocol), "offered {:?}", hello.alpn);
    }
    for http1_only in [true, false] {
        let client = client::secure(&authority, "gateway.test", gateway.address("https"), http1_only);
        let url = format!("https://gateway.test:{}/hello", gateway.address("https").port());
        let answer = client::send(client.get(url)).await;
        answer.expect_status(200);
        assert_eq!(answer.version, if http1_only { Version::HTTP_11 } else { Version::HTTP_2 });
        assert_eq!(echo.last().path(), "/hello");
        assert_eq!(echo.last().values("x-forwarded-proto"), ["https"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_tls_version_is_refused_where_the_settings_say_so() {
    let (authority, echo) = (Authority::new(), Echo::start().await);
    let gateway = secure_gateway(&authority, &["gateway.test"], "1.3", &echo).await;
    let old = Hello { versions: TLS12_ONLY, alpn: &["http/1.1"] };
    let refused = tls::connect(gateway.address("https"), "gateway.test", &authority, &old).await;
    let refused = refused.expect_err("TLS 1.2 is not spoken here").to_string();
    assert!(refused.contains("ProtocolVersion"), "the alert names the reason: {refused}");
    let new = tls::connect(gateway.address("https"), "gateway.test", &authority, &tls::H1).await;
    assert!(new.is_ok(), "{:?}", new.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_listener_serves_http() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{OPEN}")).await;
    let answer = client::send(client::plain().post(gateway.url("/hello?a=b")).body("body")).await;
    answer.expect_status(200);
    let seen = echo.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_str()), ("POST", "/hello?a=b", "body"));
    assert_eq!(seen.values("x-forwarded-proto"), ["http"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_section_over_the_limits_is_refused() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let gateway = Gateway::plain(&format!("{HEAD}{HTTP}{upstream}{OPEN}")).await;
    let field = |index: usize, bytes: usize| format!("X-Filler-{index}: {}\r\n", "x".repeat(bytes));
    // By default 32 KiB in 100 fields.
    let cases: [(&str, String); 3] = [
        ("one field of 40 KiB", field(0, 40 * 1024)),
        ("forty fields of 1 KiB", (0..40).map(|index| field(index, 1024)).collect()),
        ("120 small fields", (0..120).map(|index| field(index, 1)).collect()),
    ];
    for (what, fields) in cases {
        let request = format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{fields}Connection: close\r\n\r\n");
        let answer = wire::ask(gateway.address("http"), request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|| panic!("{what}: closed without an answer"));
        answer.expect_problem(431, "headers_too_large");
    }
    assert_eq!(echo.count(), 0, "what is refused never reaches the upstream");
    let request = format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{}Connection: close\r\n\r\n", field(0, 8 * 1024));
    let answer = wire::ask(gateway.address("http"), request.as_bytes()).await.expect("an answer");
    answer.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_has_one_line_a_request() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo).await;
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    let served = client::plain().get(gateway.url("/api/v1/served?secret=1")).bearer_auth(&token);
    let served = client::send(served).await;
    served.expect_status(200);
    let refused = client::send(client::plain().get(gateway.url("/api/v1/refused"))).await;
    refused.expect_problem(401, "token_missing");

    let line = gateway.access_log("the served request", |line| line["path"] == "/api/v1/served").await;
    let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} is not text in {line}")).to_owned();
    assert_eq!((text("method").as_str(), text("route").as_str()), ("GET", "api"));
    assert_eq!((text("client").as_str(), text("subject").as_str()), ("127.0.0.1", "alice"));
    assert_eq!(text("upstream"), echo.address().to_string());
    assert_eq!(text("host"), gateway.address("http").to_string());
    assert_eq!(text("request_id"), echo.last().values("x-request-id").concat());
    assert_eq!(line["status"], 200);
    assert_eq!(line["attempts"], 1);
    for key in ["time", "protocol", "outcome"] {
        assert!(!text(key).is_empty(), "{key} is empty in {line}");
    }
    for key in ["duration_ms", "upstream_ms", "bytes_in", "bytes_out"] {
        assert!(line[key].is_number(), "{key} is not a number in {line}");
    }
    assert!(
        line["duration_ms"].as_f64() >= line["upstream_ms"].as_f64(),
        "the upstream's part is in the whole: {line}"
    );
    assert!(!line.to_string().contains("secret"), "the query stays out of the log: {line}");
    assert!(!line.to_string().contains(&token), "credentials stay out of the log: {line}");

    let line = gateway.access_log("the refused request", |line| line["path"] == "/api/v1/refused").await;
    assert_eq!(line["status"], 401);
    assert_eq!(line["code"], "token_missing");
    assert_eq!(line["route"], "api");
    assert_eq!(line["request_id"], refused.json()["request_id"], "the client's id is the log's");
    assert!(line.get("upstream").is_none_or(Value::is_null), "no upstream was asked: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_log_that_nobody_takes_costs_no_request() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe").display().to_string();
    // A disk that is full, and a pipe that is held open and never read. 1000 lines are more than pipe and block hold.
    let full = "exec \"$@\" > /dev/full".to_owned();
    let unread = format!("mkfifo '{pipe}' && exec \"$@\" 3<> '{pipe}' >&3");
    for (script, requests, lost) in [(full, 20, true), (unread, 1000, false)] {
        let settings = format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
        let gateway = Gateway::start_as(&settings, &["http"], |command| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
            *command = shell;
        })
        .await;
        let client = client::plain();
        for _ in 0..requests {
            client::send(client.get(gateway.url("/x"))).await.expect_status(200);
        }
        if lost {
            gateway.until_metrics_say(&format!("gateway_access_log_lost_total {requests}")).await;
            assert_eq!(gateway.said().matches("the access log cannot be written").count(), 1, "it is said once");
        }
        gateway.terminate();
        let ended = gateway.ended(PATIENCE).await;
        assert_eq!(ended.status.code(), Some(0), "{script}: {}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_routes_and_codes_and_health_is_told() {
    let echo = Echo::start().await;
    let gateway = guarded_gateway(&echo).await;
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    for _ in 0..3 {
        client::send(client::plain().get(gateway.url("/api/v1/x")).bearer_auth(&token)).await.expect_status(200);
    }
    for _ in 0..2 {
        client::send(client::plain().get(gateway.url("/api/v1/x"))).await.expect_problem(401, "token_missing");
    }
    let told = |metrics: &str, name: &str, labels: [&str; 2]| {
        let mut samples = metrics.lines().filter(|line| line.starts_with(name));
        let sample = samples.find(|line| labels.iter().all(|label| line.contains(label)))?;
        sample.rsplit(' ').next()?.parse::<f64>().ok()
    };
    // A request is counted when its answer is complete, which may be a moment after the client has it.
    until("the metrics count what was sent", PATIENCE, async || {
        let metrics = gateway.metrics().await;
        let served = told(&metrics, "gateway_requests_total{", ["route=\"api\"", "class=\"2xx\""]);
        let refused = told(&metrics, "gateway_refusals_total{", ["route=\"api\"", "code=\"token_missing\""]);
        (served == Some(3.0) && refused == Some(2.0)).then_some(())
    })
    .await;
    gateway.admin("/health/live").await.expect_status(200);
    gateway.admin("/health/ready").await.expect_status(200);
}

/// A gateway whose one route asks for a token with `read`.
async fn guarded_gateway(echo: &Echo) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!(
        "{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\nroutes:\n  \
         - {{ id: api, path: /api/v1/*, auth: [tokens], require: [read], to: api }}\n"
    );
    // The key set is read before the gateway listens, so the folder may go when this returns.
    Gateway::plain(&settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_drips_in_is_cut_off_and_an_idle_connection_is_not() {
    const LIMIT: Duration = Duration::from_millis(500);
    const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let echo = Echo::start().await;
    let head = HEAD.replace("drain: 10s", "drain: 10s, header_timeout: 500ms");
    let gateway = Gateway::plain(&format!("{head}{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])))).await;
    let mut idle = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    answered(&mut idle, REQUEST).await;

    // One byte at a time, each well within any bound on a single read.
    let mut dripping = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    let (mut reader, mut writer) = dripping.split();
    let start = Instant::now();
    let drip = async {
        writer.write_all(b"GET /x HTTP/1.1\r\nHost: a.test\r\nX: ").await.expect("the connection is open");
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            if writer.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    let mut rest = Vec::new();
    let cut = async {
        tokio::select! {
            ended = reader.read_to_end(&mut rest) => drop(ended),
            () = drip => {}
        }
    };
    within("the slow head is cut off", PATIENCE, cut).await;
    assert!(start.elapsed() >= LIMIT, "not before its time: {:?}", start.elapsed());
    assert_eq!(echo.count(), 1, "it was no request");
    let metrics = gateway.metrics().await;
    let counted = "gateway_connections_refused_total{reason=\"header_timeout\"} 1";
    assert!(metrics.contains(counted), "{counted} is not in\n{metrics}");
    // By now the idle connection has been idle for longer than a head may take.
    answered(&mut idle, REQUEST).await;
    assert_eq!(echo.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_as_many_requests_as_are_set() {
    for most in [1, 3] {
        let echo = Echo::start().await;
        let head = HEAD.replace("drain: 10s", &format!("drain: 10s, keepalive_requests: {most}"));
        let gateway = Gateway::plain(&format!("{head}{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])))).await;
        let mut stream = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
        for _ in 0..most {
            answered(&mut stream, b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        }
        let end = within("the gateway closes it", PATIENCE, stream.read(&mut [0])).await;
        assert!(matches!(end, Ok(0)), "{most}: {end:?}");
        assert_eq!(echo.count(), most);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_body_is_not_taken_for_a_head_that_drips_in() {
    let head = HEAD.replace("drain: 10s", "drain: 10s, header_timeout: 500ms");
    let route = "routes:\n  - { id: fixed, path: /*, auth: none, respond: { body: '{}' } }\n";
    let gateway = Gateway::plain(&format!("{head}{HTTP}{route}")).await;
    let mut stream = TcpStream::connect(gateway.address("http")).await.expect("the gateway listens");
    answered(&mut stream, b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n").await;
    // It comes behind the answer; and then, which is the test, nothing for longer than a head may take.
    stream.write_all(b"rest").await.expect("the connection is open");
    tokio::time::sleep(Duration::from_secs(1)).await;
    answered(&mut stream, b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let metrics = gateway.metrics().await;
    assert!(!metrics.contains("reason=\"header_timeout\"} 1"), "nobody was slow:\n{metrics}");
}

/// Sends a request on an open connection and reads until its JSON body ends.
async fn answered(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.expect("the connection is open");
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"}") {
            let count = stream.read_buf(&mut answer).await.expect("the connection is open");
            assert_ne!(count, 0, "closed: {:?}", String::from_utf8_lossy(&answer));
        }
    };
    within("an answer", PATIENCE, read).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
}
