//! Traces: what a collector learns of a request to the backend.
//!
//! Read next: `health.rs`.

use serde_json::json;
use testkit::collector::{Collector, Told};
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;
use crate::harness::settings::Settings;

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
