//! Traces: what a collector learns of a request, and what it never does.
//!
//! Read next: `whole.rs`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testkit::collector::{Collector, Told};
use testkit::redis::free_address;
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{self, Backend};
use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};
use crate::harness::upstream::Echo;

/// A parent as a client sends it: its trace, its span, and that it is told of.
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PARENT_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_SPAN: &str = "00f067aa0ba902b7";

/// The last number of the address that `HEAD` trusts.
const TRUSTED: u8 = 9;

/// Settings of a gateway before this server, which tells this share of its requests.
fn settings(server: SocketAddr, collector: SocketAddr, sample: &str, more: &str) -> String {
    let pool = upstream(&Pool::of(&[server]));
    format!("{HEAD}{HTTP}traces: {{ otlp: \"http://{collector}\", sample: \"{sample}\"{more} }}\n{pool}{OPEN}")
}

/// The one span of a trace that `wanted` accepts.
fn one<'t>(trace: &'t [Told], what: &str, wanted: impl Fn(&Told) -> bool) -> &'t Told {
    let found: Vec<&Told> = trace.iter().filter(|span| wanted(span)).collect();
    assert_eq!(found.len(), 1, "{what} in {trace:#?}");
    found[0]
}

/// Waits for the gateway's own span of a request with this path.
async fn request_span(collector: &Collector, path: &str) -> Told {
    until(&format!("the span of {path} is told"), PATIENCE, async || {
        let spans = collector.spans();
        let mut wanted = spans.into_iter().filter(|span| span.service == "gateway" && span.kind == "server");
        wanted.find(|span| span.attribute("url.path") == path)
    })
    .await
}

/// Writes settings of a backend that tells what others have decided to tell, and nothing of its own.
fn backend_settings(folder: &Path, collector: &Collector) -> std::path::PathBuf {
    let file = backend::write_settings(folder);
    let mut text = std::fs::read_to_string(&file).expect("just written");
    writeln!(text, "traces: {{ otlp: \"{}\", sample: \"0%\" }}", collector.url()).expect("text grows");
    std::fs::write(&file, text).expect("a temporary folder can be written");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_trace_through_gateway_backend_and_model() {
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let backend = Backend::start(&backend_settings(folder.path(), &collector)).await;
    let secret = folder.path().join("collector-key");
    std::fs::write(&secret, "collector-hunter2").expect("a temporary folder can be written");
    let headers = format!(", headers: {{ X-Collector-Key: \"file:{}\" }}", secret.display());
    let gateway = Gateway::plain(&settings(backend.api, collector.address, "100%", &headers)).await;
    let client = client::plain();

    let login = json!({ "username": "admin", "password": "admin123" });
    let login = client::send(client.post(gateway.url("/auth/login")).json(&login)).await;
    login.expect_status(200);
    let token = login.json()["access_token"].as_str().expect("a token is text").to_owned();
    let ask = client.post(gateway.url("/api/v1/query?hint=hidden-hunter2")).bearer_auth(&token);
    let answer = client::send(ask.json(&json!({ "query": "What does the word marmalade mean?" }))).await;
    answer.expect_status(200);

    let request = request_span(&collector, "/api/v1/query").await;
    let trace = until("both programs have told", PATIENCE, async || {
        let trace = collector.trace(&request.trace_id);
        (trace.len() >= 4).then_some(trace)
    })
    .await;
    let attempt = one(&trace, "the attempt", |span| span.service == "gateway" && span.kind == "client");
    let served = one(&trace, "the backend's request", |span| span.service == "backend" && span.kind == "server");
    let model = one(&trace, "the model's call", |span| span.service == "backend" && span.kind == "client");
    assert_eq!(request.parent_id, "", "the client has no trace");
    assert_eq!(attempt.parent_id, request.span_id);
    assert_eq!(served.parent_id, attempt.span_id);
    assert_eq!(model.parent_id, served.span_id);
    assert_eq!((request.name.as_str(), served.name.as_str()), ("POST open", "POST /api/v1/query"));
    let port = backend.api.port().to_string();
    for (span, name, value) in [
        (&request, "http.request.method", "POST"),
        (&request, "http.route", "open"),
        (&request, "http.response.status_code", "200"),
        (&request, "client.address", "127.0.0.1"),
        (&request, "server.address", "127.0.0.1"),
        (&request, "network.protocol.version", "1.1"),
        (attempt, "http.response.status_code", "200"),
        (attempt, "server.port", port.as_str()),
        (attempt, "capibara6.upstream", "api"),
        (served, "http.route", "/api/v1/query"),
        (served, "url.path", "/api/v1/query"),
        (model, "gen_ai.operation.name", "chat"),
        (model, "gen_ai.request.model", "capibara6-dev"),
        (model, "gen_ai.provider.name", "embedded"),
    ] {
        assert_eq!(span.attribute(name), value, "{name} of {span:#?}");
    }
    assert_ne!(model.attribute("gen_ai.usage.output_tokens"), "", "{model:#?}");
    assert!(trace.iter().all(|span| !span.failed), "{trace:#?}");

    let line = gateway.access_log("the query", |line| line["path"] == "/api/v1/query").await;
    assert_eq!(line["trace_id"], request.trace_id.as_str(), "{line}");
    // What nobody may learn from a trace: credentials, queries, questions.
    for secret in [token.as_str(), "admin123", "hunter2", "marmalade"] {
        assert!(!collector.holds(secret), "{secret} was told");
    }
    let heads = collector.heads();
    assert!(heads.iter().all(|head| head.starts_with("POST /v1/traces HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads.iter().any(|head| head.contains("x-collector-key: collector-hunter2")), "{heads:?}");
    assert!(!gateway.said().contains("hunter2"), "the log holds a secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_trusted_peer_decides_for_us() {
    let (collector, echo) = (Collector::start().await, Echo::start().await);
    let gateway = Gateway::plain(&settings(echo.address(), collector.address, "0%", "")).await;
    let (stranger, proxy) = (client::plain(), client::plain_from(TRUSTED));
    let malformed = PARENT.to_uppercase();

    // Who asks, with which parent; whether the trace goes on, and how the upstream learns that nothing is told.
    for (path, client, parent) in [
        ("/none", &stranger, None),
        ("/stranger", &stranger, Some(PARENT)),
        ("/malformed", &proxy, Some(malformed.as_str())),
    ] {
        let ask = client.get(gateway.url(path)).header("tracestate", "congo=t61rcWkgMzE");
        let ask = match parent {
            Some(parent) => ask.header("traceparent", parent),
            None => ask,
        };
        client::send(ask).await.expect_status(200);
        let seen = echo.last();
        let [sent] = seen.values("traceparent")[..] else { panic!("{path}: one field: {seen:?}") };
        assert!(sent.starts_with("00-") && sent.ends_with("-00"), "{path}: {sent}");
        assert!(!sent.to_lowercase().contains(PARENT_TRACE), "{path}: {sent}");
        assert!(seen.values("tracestate").is_empty(), "{path}: {seen:?}");
        let line = gateway.access_log(path, |line| line["path"] == path).await;
        assert_eq!(line["trace_id"].as_str(), sent.get(3..35), "{path}: {line}");
    }

    let ask = proxy.get(gateway.url("/followed")).header("traceparent", PARENT);
    client::send(ask.header("tracestate", "congo=t61rcWkgMzE")).await.expect_status(200);
    let seen = echo.last();
    assert_eq!(seen.values("tracestate"), ["congo=t61rcWkgMzE"]);
    let request = request_span(&collector, "/followed").await;
    assert_eq!((request.trace_id.as_str(), request.parent_id.as_str()), (PARENT_TRACE, PARENT_SPAN));
    let trace = collector.trace(PARENT_TRACE);
    let attempt = one(&trace, "the attempt", |span| span.kind == "client");
    assert_eq!(attempt.parent_id, request.span_id);
    assert_eq!(seen.values("traceparent"), [format!("00-{PARENT_TRACE}-{}-01", attempt.span_id)]);
    let others: Vec<Told> = collector.spans().into_iter().filter(|span| span.trace_id != PARENT_TRACE).collect();
    assert!(others.is_empty(), "what is not told of was told: {others:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_and_refusals_are_told_with_their_kind() {
    let collector = Collector::start().await;
    // Nobody listens here: the port was free a moment ago.
    let gateway = Gateway::plain(&settings(free_address(), collector.address, "100%", "")).await;
    let client = client::plain();
    client::send(client.get(gateway.url("/away"))).await.expect_problem(503, "upstream_unavailable");
    let request = request_span(&collector, "/away").await;
    assert!(request.failed, "{request:#?}");
    assert_eq!(request.attribute("error.type"), "upstream_unavailable");
    assert_eq!(request.attribute("http.response.status_code"), "503");
    let trace = collector.trace(&request.trace_id);
    let attempts: Vec<&Told> = trace.iter().filter(|span| span.kind == "client").collect();
    assert!(!attempts.is_empty(), "{trace:#?}");
    for attempt in attempts {
        assert!(attempt.failed, "{attempt:#?}");
        assert_eq!((attempt.attribute("error.type"), &attempt.parent_id), ("connect", &request.span_id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_harms_no_request() {
    let (echo, away) = (Echo::start().await, free_address());
    let gateway = Gateway::plain(&settings(echo.address(), away, "100%", ", timeout: 500ms")).await;
    let client = client::plain();
    for index in 0..20 {
        client::send(client.get(gateway.url(&format!("/{index}")))).await.expect_status(200);
    }
    // Each has two spans: its own, and that of the attempt.
    until("the spans are counted as dropped", PATIENCE, async || (dropped(&gateway).await >= 40).then_some(())).await;
    let complaint = "traces are not accepted";
    assert_eq!(gateway.said().matches(complaint).count(), 1, "once, not once a batch: {}", gateway.said());

    let collector = Collector::start_at(away).await;
    until("traces are told again", PATIENCE, async || {
        client::send(client.get(gateway.url("/again"))).await.expect_status(200);
        collector.spans().iter().any(|span| span.attribute("url.path") == "/again").then_some(())
    })
    .await;
    until("the log says so", PATIENCE, async || gateway.said().contains("traces are accepted again").then_some(()))
        .await;
    assert_eq!(gateway.said().matches(complaint).count(), 1, "{}", gateway.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_told_before_the_end() {
    let (collector, echo) = (Collector::start().await, Echo::start().await);
    let gateway = Gateway::plain(&settings(echo.address(), collector.address, "100%", "")).await;
    client::send(client::plain().get(gateway.url("/last"))).await.expect_status(200);
    gateway.terminate();
    let ended = gateway.ended(PATIENCE + Duration::from_secs(1)).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    let told = collector.spans();
    assert!(told.iter().any(|span| span.attribute("url.path") == "/last"), "{told:#?}");
}

/// `gateway_spans_dropped_total`.
async fn dropped(gateway: &Gateway) -> u64 {
    let count = gateway.metric("gateway_spans_dropped_total").await;
    count.and_then(|count| count.parse().ok()).expect("a number of spans")
}
