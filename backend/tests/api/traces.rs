//! Traces: what a collector learns of a request to the backend.
//!
//! Read next: `health.rs`.

use serde_json::json;
use testkit::collector::{Collector, Told};
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;
use crate::harness::settings::Settings;
use crate::harness::socket::Socket;
use crate::jobs::{submit, until_status};

const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const UNSAMPLED_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn start(collector: &Collector) -> Backend {
    let traces = format!("traces: {{ otlp: \"{}\", sample: 100% }}", collector.url());
    Backend::start(&Settings::development().section(&traces)).await
}

/// Waits for the request's own span.
async fn request_span(collector: &Collector, name: &str) -> Told {
    until(&format!("{name} is told"), PATIENCE, async || {
        collector.spans().into_iter().find(|span| span.kind == "server" && span.name == name)
    })
    .await
}

/// Waits for the span of this name below another.
async fn below(collector: &Collector, above: &Told, name: &str) -> Told {
    until(&format!("{name} is told"), PATIENCE, async || {
        let trace = collector.trace(&above.trace_id);
        trace.into_iter().find(|span| span.name == name && span.parent_id == above.span_id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_services_and_models_stand_below_their_request() {
    let collector = Collector::start().await;
    let backend = start(&collector).await;
    let admin = backend.login(ADMIN).await;

    let login = request_span(&collector, "POST /auth/login").await;
    assert_eq!(below(&collector, &login, "sessions.login").await.kind, "internal");

    let document = "query Who { me { username } }";
    let ask = backend.graphql_request("POST", "/graphql").json(&json!({ "query": document, "operationName": "Who" }));
    send(ask.bearer_auth(&admin.access)).await.expect_status(200);
    let request = request_span(&collector, "POST /graphql").await;
    let operation = below(&collector, &request, "query").await;
    assert_eq!(operation.attribute("graphql.operation.type"), "query");
    assert_eq!(operation.attribute("graphql.operation.name"), "Who");
    assert!(backend.said().contains(&request.trace_id), "the log names the trace: {}", backend.said());

    // The answer of a stream is read by another task than the one that was asked.
    let body = json!({ "query": "What does the word marmalade mean?", "stream": true });
    send(backend.query(&body).bearer_auth(&admin.access)).await.expect_status(200);
    let request = request_span(&collector, "POST /api/v1/query").await;
    let model = below(&collector, &request, "chat capibara6-dev").await;
    assert_eq!((model.kind.as_str(), model.attribute("gen_ai.request.stream")), ("client", "true"));
    assert!(!model.failed, "{model:#?}");

    send(backend.get("/api/v1/models")).await.expect_problem(401, "token_missing");
    let refused = request_span(&collector, "GET /api/v1/models").await;
    assert_eq!((refused.attribute("error.type"), refused.failed), ("token_missing", false));
    for secret in [admin.access.as_str(), admin.refresh.as_str(), ADMIN.1, "username", "marmalade"] {
        assert!(!collector.holds(secret), "{secret} was told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_later_stands_below_its_request() {
    let collector = Collector::start().await;
    let backend = start(&collector).await;
    let admin = backend.login(ADMIN).await;
    let batch = json!({ "queries": [{ "query": "What does the word quince mean?" }] });
    let id = submit(&backend, &admin.access, &batch).await;
    until_status(&backend, &admin.access, &id, "done", PATIENCE).await;
    let request = request_span(&collector, "POST /api/v1/batch").await;
    let made = below(&collector, &request, "jobs.create").await;
    let attempt = below(&collector, &made, "job.attempt").await;
    assert_eq!((attempt.kind.as_str(), attempt.failed), ("consumer", false), "{attempt:#?}");
    for (name, value) in [("job.id", id.as_str()), ("job.attempt", "1"), ("job.outcome", "done")] {
        assert_eq!(attempt.attribute(&format!("capibara6.{name}")), value, "{attempt:#?}");
    }
    below(&collector, &attempt, "chat capibara6-dev").await;
    assert!(!collector.holds("quince"), "a query was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_of_a_socket_stand_below_the_request_that_opened_it() {
    let collector = Collector::start().await;
    let backend = start(&collector).await;
    let admin = backend.login(ADMIN).await;
    let mut socket = Socket::known(&backend, &admin.access).await;
    let answer = "subscription { answer(input: { query: \"What does the word medlar mean?\" }) { delta } }";
    for (id, document) in [("1", answer), ("2", "{ me { username } }"), ("3", "{ job(id: \"none\") { id } }")] {
        socket.subscribe(id, document).await;
        while socket.hear().await["type"] != "complete" {}
    }
    let request = request_span(&collector, "GET /graphql").await;
    assert_eq!(request.attribute("http.response.status_code"), "101", "{request:#?}");
    let subscription = below(&collector, &request, "subscription").await;
    assert_eq!(subscription.attribute("graphql.operation.type"), "subscription", "{subscription:#?}");
    let model = below(&collector, &subscription, "chat capibara6-dev").await;
    assert_eq!(model.attribute("gen_ai.request.stream"), "true", "{model:#?}");
    until("both queries are told, and what came of them", PATIENCE, async || {
        let trace = collector.trace(&request.trace_id);
        let queries = trace.iter().filter(|span| span.name == "query" && span.parent_id == request.span_id);
        let mut failures: Vec<&str> = queries.map(|span| span.attribute("error.type")).collect();
        failures.sort_unstable();
        (failures == ["", "not_found"]).then_some(())
    })
    .await;
    for secret in [admin.access.as_str(), "medlar"] {
        assert!(!collector.holds(secret), "{secret} was told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_before_and_what_is_asked_all_the_time_is_not_told() {
    let collector = Collector::start().await;
    let backend = start(&collector).await;
    send(backend.get("/health").header("traceparent", UNSAMPLED)).await.expect_status(200);
    send(backend.get("/health")).await.expect_status(200);
    send(backend.get("/api/v1/models").header("traceparent", UNSAMPLED)).await.expect_status(401);
    // Spans are told in their order, so what comes last shows that nothing came before.
    send(backend.get("/.well-known/jwks.json")).await.expect_status(200);
    request_span(&collector, "GET /.well-known/jwks.json").await;
    let told = collector.spans();
    assert_eq!(told.len(), 1, "{told:#?}");
    until("the log names the trace all the same", PATIENCE, async || {
        backend.said().contains(UNSAMPLED_TRACE).then_some(())
    })
    .await;
}
