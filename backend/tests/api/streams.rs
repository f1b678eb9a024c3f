//! Streams: `/api/v1/query` with `"stream": true`, as a client that reads along sees it.
//!
//! Read next: `openai.rs`.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use testkit::wait::{PATIENCE, until};

use crate::harness::backend::{ADMIN, Backend, Session};
use crate::harness::client::send;
use crate::harness::events::{Event, Events, text_of};
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;

/// A query that looks up one thing.
const SIMPLE: &str = "What is the capital of Uruguay?";

fn streamed(query: &str) -> Value {
    json!({ "query": query, "stream": true })
}

async fn open(backend: &Backend, session: &Session, body: &Value) -> Events {
    Events::open(backend.query(body).bearer_auth(&session.access)).await
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_comes_word_by_word_between_routing_and_done() {
    let model = FakeModel::start(Script::Drip("Monte video it is.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    model.release();
    let mut events = open(&backend, &admin, &streamed(SIMPLE)).await;
    assert_eq!(events.header("x-cache"), "miss");
    let routing = events.event().await;
    assert_eq!((routing.name.as_str(), &routing.json()["model"]), ("routing", &json!("m")), "{routing:?}");
    assert!(routing.json()["reason"].as_str().is_some_and(|reason| reason.contains("complexity")), "{routing:?}");
    assert_eq!(events.event().await.json(), json!({ "text": "Monte " }));
    // Each word is told as soon as it is there: the model has not said the next one yet.
    for word in ["video ", "it ", "is."] {
        model.release();
        assert_eq!(events.event().await.json(), json!({ "text": word }));
    }
    let done = events.event().await;
    assert_eq!(done.name, "done");
    let told = done.json();
    assert!(told["id"].as_str().is_some_and(|id| !id.is_empty()), "{told}");
    assert_eq!(told["usage"], json!({ "prompt_tokens": 7, "completion_tokens": 11 }), "{told}");
    assert_eq!((&told["cached"], &told["finish_reason"]), (&json!(false), &json!("stop")), "{told}");
    assert_eq!((told.get("ace"), told.get("e2b")), (Some(&Value::Null), None), "{told}");
    assert_eq!(events.next().await, None, "nothing comes after it");

    let seen = model.seen();
    assert_eq!(seen[0].body["stream"], true, "{seen:?}");
    assert_eq!(seen[0].body["stream_options"], json!({ "include_usage": true }), "{seen:?}");
    let metrics = backend.metrics().await;
    for line in [
        "backend_model_first_token_seconds_count{model=\"m\"} 1",
        "backend_model_seconds_count{model=\"m\"} 1",
        "backend_model_tokens_total{kind=\"prompt\",model=\"m\"} 7",
        "backend_model_tokens_total{kind=\"completion\",model=\"m\"} 11",
        "backend_queries_total{model=\"m\",source=\"model\"} 1",
        "backend_model_circuit{model=\"m\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_kept_whichever_way_it_was_told() {
    let model = FakeModel::start(Script::Answer("Monte video.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    let fresh = open(&backend, &admin, &streamed(SIMPLE)).await.rest().await;
    assert_eq!((names(&fresh), text_of(&fresh)), (vec!["routing", "delta", "delta", "done"], "Monte video.".into()));

    // From the cache it comes at once, in one piece.
    let mut again = open(&backend, &admin, &streamed(SIMPLE)).await;
    assert_eq!(again.header("x-cache"), "hit");
    let again = again.rest().await;
    assert_eq!((names(&again), text_of(&again)), (vec!["routing", "delta", "done"], "Monte video.".into()));
    assert_eq!(again[2].json()["cached"], true);
    assert_ne!(again[2].json()["id"], fresh[3].json()["id"]);
    let whole = send(backend.query(&json!({ "query": SIMPLE })).bearer_auth(&admin.access)).await;
    assert_eq!((whole.header("x-cache"), whole.text("answer").as_str()), ("hit", "Monte video."), "{whole:?}");
    assert_eq!(model.seen().len(), 1);

    let stats = send(backend.get("/api/v1/cache").bearer_auth(&admin.access)).await;
    stats.expect_status(200);
    let told = stats.json();
    assert_eq!((&told["entries"], &told["hits"], &told["misses"]), (&json!(1), &json!(2), &json!(1)), "{told}");
    let cleared = send(backend.delete("/api/v1/cache").bearer_auth(&admin.access)).await;
    assert_eq!(cleared.expect_status(200).json(), json!({ "dropped": 1 }));
    let after = send(backend.query(&json!({ "query": SIMPLE })).bearer_auth(&admin.access)).await;
    assert_eq!((after.header("x-cache"), model.seen().len()), ("miss", 2), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_loses_its_place() {
    // More than the systems on both sides keep for a client that does not read.
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": "x".repeat(200 * 1024) } }] });
    let model = FakeModel::start(Script::Events(format!("data: {chunk}\n\n").repeat(100))).await;
    let setting = format!("{}, answer_max: 64MiB", model.setting("m", "small"));
    let settings = Settings::development().model(setting).section("streams: { open_max: 1, heartbeat: 1s }");
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let stalled = open(&backend, &admin, &streamed(SIMPLE)).await;
    let another = || backend.query(&streamed("Another?")).bearer_auth(&admin.access);
    send(another()).await.expect_problem(503, "overloaded");
    model.now(Script::Answer("Here."));
    let answer = until("its place is somebody else's", PATIENCE, async || {
        let answer = send(another()).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(answer.body.contains("event: done"), "{answer:?}");
    assert!(backend.said().contains("a client took nothing"), "the log tells why");
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_the_models_work() {
    let model = FakeModel::start(Script::Drip("One two three.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    model.release();
    let mut events = open(&backend, &admin, &streamed(SIMPLE)).await;
    events.event().await;
    events.event().await;
    let gone = Instant::now();
    drop(events);
    model.until_left(1, PATIENCE).await;
    assert!(gone.elapsed() < Duration::from_secs(1), "the model works on for {:?}", gone.elapsed());

    // The same while nothing has been said yet, and when the answer was to come in one piece.
    model.now(Script::Silence);
    for (place, body) in [streamed("Two?"), json!({ "query": "Three?" })].iter().enumerate() {
        let waiting = tokio::spawn(send(backend.query(body).bearer_auth(&admin.access)));
        model.until_asked(place + 2, PATIENCE).await;
        waiting.abort();
        model.until_left(place + 2, PATIENCE).await;
    }
    backend.until_metrics_say("backend_streams 0").await;
    // Half an answer is none: it was not kept.
    model.now(Script::Answer("Whole."));
    let after = send(backend.query(&json!({ "query": SIMPLE })).bearer_auth(&admin.access)).await;
    assert_eq!((after.header("x-cache"), after.text("answer").as_str()), ("miss", "Whole."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_model_does_not_make_a_silent_stream() {
    let model = FakeModel::start(Script::Drip("Late.")).await;
    let settings = Settings::development().model(model.setting("m", "small")).section("streams: { heartbeat: 1s }");
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    // The head comes after one heartbeat, though the model has said nothing, and then a comment for each further one.
    let mut events = open(&backend, &admin, &streamed(SIMPLE)).await;
    let ping = Event { name: ":".into(), data: "ping".into() };
    assert_eq!(events.next().await, Some(ping.clone()));
    assert_eq!(events.next().await, Some(ping));
    model.release();
    let rest = events.rest().await;
    assert_eq!((names(&rest), text_of(&rest)), (vec!["routing", "delta", "done"], "Late.".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_before_the_first_word_has_a_status_and_later_an_event() {
    let model = FakeModel::start(Script::Status(StatusCode::UNAUTHORIZED)).await;
    let entry = format!(
        "{}, circuit: {{ failures_max: 100 }}, answer_max: 4KiB, token_timeout: 1s",
        model.setting("m", "small")
    );
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let data = |chunk: Value| format!("data: {chunk}\n\n");
    let text = |text: &str| data(json!({ "choices": [{ "delta": { "content": text } }] }));
    let cases = [
        ("not a stream", Script::Body("<html>".into())),
        ("no JSON", Script::Events("data: <html>\n\n".into())),
        ("an error of its own", Script::Events(data(json!({ "error": { "message": "the model's own words" } })))),
        ("no text", Script::Events("data: [DONE]\n\n".into())),
        ("an end without a reason", Script::Events(String::new())),
        ("a line without an end", Script::Events(format!("data: {}", "x".repeat(300_000)))),
        ("too much text", Script::Events(text(&"x".repeat(5_000)))),
        ("a key it does not know", Script::Status(StatusCode::UNAUTHORIZED)),
    ];
    for (what, script) in cases {
        println!("{what}");
        model.now(script);
        let answer = send(backend.query(&streamed(SIMPLE)).bearer_auth(&admin.access)).await;
        answer.expect_problem(502, "model_failed");
        assert!(!answer.body.contains("the model's own words"), "{what}: {answer:?}");
    }

    let broken = [
        ("it breaks the connection", Script::Break("One two."), "model_failed"),
        ("it ends without a reason", Script::Events(text("One two.")), "model_failed"),
        ("it says nothing more", Script::Drip("One two."), "model_timeout"),
    ];
    for (what, script, code) in broken {
        println!("{what}");
        let is_break = matches!(script, Script::Break(_));
        if matches!(script, Script::Drip(_)) {
            model.release();
        }
        model.now(script);
        let mut events = open(&backend, &admin, &streamed(SIMPLE)).await;
        assert_eq!(events.event().await.name, "routing");
        assert_eq!(events.event().await.name, "delta");
        if is_break {
            model.release();
        }
        let rest = events.rest().await;
        let last = rest.last().expect("it is told");
        assert_eq!(last.name, "error", "{what}: {rest:?}");
        let problem = last.json();
        assert_eq!(problem["code"], code, "{what}: {problem}");
        assert_eq!(problem["instance"], "/api/v1/query", "{what}: {problem}");
        assert!(problem["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{what}: {problem}");
    }
    // None of that was kept.
    model.now(Script::Answer("Whole."));
    let whole = open(&backend, &admin, &streamed(SIMPLE)).await.rest().await;
    assert_eq!(text_of(&whole), "Whole.");
    for wrong in [json!({ "query": "", "stream": true }), json!({ "query": "q", "stream": "yes" })] {
        send(backend.query(&wrong).bearer_auth(&admin.access)).await.expect_problem(400, "input_invalid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_places() {
    let model = FakeModel::start(Script::Silence).await;
    let settings =
        Settings::development().model(model.setting("m", "small")).section("streams: { open_max: 2, heartbeat: 1s }");
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let _one = open(&backend, &admin, &streamed("One?")).await;
    let two = open(&backend, &admin, &streamed("Two?")).await;
    let refused = send(backend.query(&streamed("Three?")).bearer_auth(&admin.access)).await;
    refused.expect_problem(503, "overloaded");
    let metrics = backend.metrics().await;
    assert!(metrics.contains("backend_streams 2"), "{metrics}");
    drop(two);
    model.until_left(1, PATIENCE).await;
    // Its place is free again.
    model.now(Script::Answer("Three."));
    until("a place is free", PATIENCE, async || {
        let answer = send(backend.query(&streamed("Three?")).bearer_auth(&admin.access)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}
