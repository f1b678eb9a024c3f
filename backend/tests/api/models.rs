//! Models: servers of the OpenAI-compatible HTTP API, and what the backend makes of their faults.
//!
//! Read next: `processes.rs`.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use testkit::wait::{PATIENCE, until};
use tokio::net::TcpListener;

use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::{Answer, send};
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::{Settings, secret_file};

/// A query that looks up one thing.
const SIMPLE: &str = "What is the capital of Uruguay?";

/// A query that asks for reasoning, steps and code.
const HARD: &str = "Compare these two and explain why the second one is slow. Prove it step by step.\n\
    1. `fn first() {}`\n2. `fn second() { loop {} }`\nIs it the loop? Or the compiler? Which would you choose?";

async fn ask(backend: &Backend, session: &Session, body: &Value) -> Answer {
    send(backend.query(body).bearer_auth(&session.access)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_goes_to_the_model_that_fits() {
    let (small, large) = (
        FakeModel::start(Script::Answer("From the small one.")).await,
        FakeModel::start(Script::Answer("Large.")).await,
    );
    let settings = Settings::development()
        .model(small.setting("m-small", "small"))
        .model(large.setting("m-large", "large"))
        .routing("large_from: 50");
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let cases = [
        (json!({ "query": SIMPLE }), "m-small", "From the small one."),
        (json!({ "query": HARD }), "m-large", "Large."),
        (json!({ "query": SIMPLE, "model": "m-large" }), "m-large", "Large."),
        (json!({ "query": HARD, "model": "m-small" }), "m-small", "From the small one."),
    ];
    for (body, model, text) in cases {
        let answer = ask(&backend, &admin, &body).await;
        answer.expect_status(200);
        let answered = answer.json();
        assert_eq!(answered["model"], model, "{body}: {answered}");
        assert_eq!(answered["routing"]["model"], model, "{body}: {answered}");
        assert_eq!(answered["answer"], text, "{body}: {answered}");
        assert_eq!(answered["usage"], json!({ "prompt_tokens": 7, "completion_tokens": 11 }), "{answered}");
        assert!(answered["routing"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answered}");
        // Hard or simple is a property of the text, whoever answers it.
        let hard = answered["routing"]["complexity"].as_u64().expect("a number") >= 50;
        assert_eq!(hard, body["query"] == HARD, "{answered}");
    }
    assert_eq!((small.seen().len(), large.seen().len()), (2, 2));

    let listed = send(backend.get("/api/v1/models").bearer_auth(&admin.access)).await;
    listed.expect_status(200);
    let told: Vec<Value> = listed.items().iter().map(|item| json!([item["id"], item["size"]])).collect();
    assert_eq!(told, [json!(["m-small", "small"]), json!(["m-large", "large"])], "{listed:?}");
    assert!(!listed.body.contains(&small.url()), "addresses stay inside: {listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_server_gets_what_it_needs_and_no_more() {
    let model = FakeModel::start(Script::Answer("Montevideo.")).await;
    let folder = folder();
    let key = secret_file(folder.path(), "model-key", "sk-between-us");
    let entry = format!("{}, key: {key}, model: \"org/model-20b\", tokens_max: 300", model.setting("m", "small"));
    let backend = Backend::start_in(&folder, &Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    ask(&backend, &admin, &json!({ "query": SIMPLE })).await.expect_status(200);
    let tuned = json!({ "query": SIMPLE, "max_tokens": 50, "temperature": 0.25 });
    ask(&backend, &admin, &tuned).await.expect_status(200);
    let too_many = json!({ "query": SIMPLE, "max_tokens": 301 });
    ask(&backend, &admin, &too_many).await.expect_input_invalid("max_tokens");

    let seen = model.seen();
    let [plain, tuned] = &seen[..] else { panic!("two requests reach the model: {seen:?}") };
    let messages = json!([{ "role": "user", "content": SIMPLE }]);
    assert_eq!(plain.authorization.as_deref(), Some("Bearer sk-between-us"));
    assert_eq!(
        plain.body,
        json!({ "model": "org/model-20b", "messages": messages, "max_tokens": 300, "stream": false })
    );
    assert_eq!(tuned.body["max_tokens"], 50);
    assert_eq!(tuned.body["temperature"], json!(0.25));
    assert!(!backend.said().contains("sk-between-us"), "the model's key is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_is_not_believed() {
    let model = FakeModel::start(Script::Answer("Never.")).await;
    // One attempt a question, and never left alone: what is told of each failure is the point here.
    let patience = "attempts_max: 1, circuit: { failures_max: 100 }";
    let entry = format!("{}, answer_max: 4KiB, {patience}", model.setting("m", "small"));
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let completion = |content: Value| json!({ "choices": [{ "message": { "content": content } }] }).to_string();
    let huge = completion(json!("x".repeat(10_000)));
    let cases = [
        ("its own fault", Script::Status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("busy", Script::Status(StatusCode::TOO_MANY_REQUESTS)),
        ("a key it does not know", Script::Status(StatusCode::UNAUTHORIZED)),
        ("a redirect", Script::Status(StatusCode::FOUND)),
        ("not JSON", Script::Body("<html>".into())),
        ("no choices", Script::Body(json!({ "choices": [] }).to_string())),
        ("no text", Script::Body(completion(Value::Null))),
        ("a text that is a number", Script::Body(completion(json!(7)))),
        ("an answer without end", Script::Body(huge)),
    ];
    let asked = cases.len();
    for (what, script) in cases {
        println!("{what}");
        model.now(script);
        // Always the same question: a failure is not kept.
        let answer = ask(&backend, &admin, &json!({ "query": SIMPLE })).await;
        answer.expect_problem(502, "model_failed");
        assert!(!answer.body.contains("the model's own words"), "{what}: what it said stays inside: {answer:?}");
        assert!(!answer.body.contains("127.0.0.1"), "{what}: addresses stay inside: {answer:?}");
    }
    assert_eq!(model.seen().len(), asked, "each question is asked once");
    model.now(Script::Answer("Montevideo."));
    let answer = ask(&backend, &admin, &json!({ "query": SIMPLE })).await;
    answer.expect_status(200);
    assert_eq!(answer.json()["cached"], false, "{answer:?}");
    let metrics = backend.metrics().await;
    let failed = format!("backend_queries_total{{model=\"m\",source=\"failed\"}} {asked}");
    assert!(metrics.contains(&failed), "{failed} is not in\n{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_says_nothing_is_given_up() {
    let model = FakeModel::start(Script::Silence).await;
    let entry = format!("{}, timeout: 1s", model.setting("m", "small"));
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let start = Instant::now();
    ask(&backend, &admin, &json!({ "query": SIMPLE })).await.expect_problem(504, "model_timeout");
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "it took {took:?}");
    assert_eq!(model.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_away_has_failed() {
    // Bound and closed again: nothing listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    drop(listener);
    let entry = format!("id: m, size: small, url: \"http://{address}/v1\"");
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let answer = ask(&backend, &admin, &json!({ "query": SIMPLE })).await;
    answer.expect_problem(502, "model_failed");
    assert!(!answer.body.contains(&address.to_string()), "addresses stay inside: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_question_at_the_same_time_is_asked_once() {
    let model = FakeModel::start(Script::Hold("Montevideo.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    let body = json!({ "query": SIMPLE });
    let questions: Vec<_> =
        (0..4).map(|_| tokio::spawn(send(backend.query(&body).bearer_auth(&admin.access)))).collect();
    model.release();
    let mut fresh = 0;
    for question in questions {
        let answer = question.await.expect("a request is answered");
        answer.expect_status(200);
        assert_eq!(answer.text("answer"), "Montevideo.");
        if answer.json()["cached"] == false {
            fresh += 1;
        }
    }
    assert_eq!((fresh, model.seen().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_asked_again_where_that_may_help() {
    let model = FakeModel::start(Script::Answer("Montevideo.")).await;
    let patience = "attempts_max: 3, circuit: { failures_max: 100 }";
    let entry = format!("{}, {patience}", model.setting("m", "small"));
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let mut asked = 0;
    for (failures, status, answered) in [
        (2, StatusCode::SERVICE_UNAVAILABLE, true),
        (1, StatusCode::TOO_MANY_REQUESTS, true),
        (1, StatusCode::BAD_REQUEST, false),
        (3, StatusCode::INTERNAL_SERVER_ERROR, false),
    ] {
        for is_streamed in [false, true] {
            println!("{failures} times {status}, streamed: {is_streamed}");
            model.fail_next(failures, status);
            let body = json!({ "query": format!("{failures} {status} {is_streamed}?"), "stream": is_streamed });
            let answer = ask(&backend, &admin, &body).await;
            if answered {
                answer.expect_status(200);
                assert!(answer.body.contains("Montevideo."), "{answer:?}");
            } else {
                answer.expect_problem(502, "model_failed");
            }
            asked += failures + usize::from(answered);
            assert_eq!(model.seen().len(), asked, "{failures} times {status}");
        }
    }
    // A server that says when to come back is believed, up to a bound.
    model.now(Script::Busy(60));
    ask(&backend, &admin, &json!({ "query": "Busy?" })).await.expect_problem(502, "model_failed");
    assert_eq!(model.seen().len(), asked + 1, "nobody waits a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_answers_in_place_of_one_that_fails() {
    let (first, second) =
        (FakeModel::start(Script::Silence).await, FakeModel::start(Script::Answer("From the second.")).await);
    let entry = format!(
        "{}, fallbacks: [second], attempts_max: 2, timeout: 1s, first_token_timeout: 1s, \
         circuit: {{ failures_max: 100 }}",
        first.setting("first", "small")
    );
    let settings = Settings::development().model(entry).model(second.setting("second", "large"));
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let cases = [
        ("silence", Script::Silence, "first does not answer in time: second answers instead"),
        ("busy", Script::Busy(60), "first is busy: second answers instead"),
        ("its own fault", Script::Status(StatusCode::BAD_GATEWAY), "first fails: second answers instead"),
        ("a key it does not know", Script::Status(StatusCode::UNAUTHORIZED), "first fails: second answers instead"),
    ];
    for (what, script, reason) in cases {
        first.now(script);
        for is_streamed in [false, true] {
            println!("{what}, streamed: {is_streamed}");
            let body = json!({ "query": format!("{what} {is_streamed}?"), "stream": is_streamed });
            let answer = ask(&backend, &admin, &body).await;
            answer.expect_status(200);
            assert!(answer.body.contains(reason), "the answer says why: {answer:?}");
            assert!(answer.body.contains("\"model\":\"second\""), "and who: {answer:?}");
        }
        // Kept with its reason.
        let again = ask(&backend, &admin, &json!({ "query": format!("{what} false?") })).await;
        assert_eq!(again.header("x-cache"), "hit", "{again:?}");
        assert!(again.text_at("/routing/reason").contains(reason), "{again:?}");
    }
    let metrics = backend.metrics().await;
    let counted = "backend_model_fallbacks_total{model=\"first\"} 8";
    assert!(metrics.contains(counted), "{counted} is not in\n{metrics}");
    // A question that is refused as such is not taken elsewhere.
    first.now(Script::Status(StatusCode::BAD_REQUEST));
    ask(&backend, &admin, &json!({ "query": "Refused?" })).await.expect_problem(502, "model_failed");
    assert_eq!(second.seen().len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_fails_on_is_left_alone_and_probed() {
    let model = FakeModel::start(Script::Status(StatusCode::INTERNAL_SERVER_ERROR)).await;
    let entry =
        format!("{}, attempts_max: 1, circuit: {{ failures_max: 2, open_for: 2s }}", model.setting("m", "small"));
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let state = async || {
        let listed = send(backend.get("/api/v1/models").bearer_auth(&admin.access)).await;
        listed.items()[0]["circuit"].as_str().expect("a word").to_owned()
    };
    let query = json!({ "query": SIMPLE });
    assert_eq!(state().await, "closed");
    for _ in 0..2 {
        ask(&backend, &admin, &query).await.expect_problem(502, "model_failed");
    }
    ask(&backend, &admin, &query).await.expect_problem(503, "model_unavailable");
    assert_eq!((model.seen().len(), state().await.as_str()), (2, "open"), "it is not asked");
    let metrics = backend.metrics().await;
    assert!(metrics.contains("backend_model_circuit{model=\"m\"} 2"), "{metrics}");
    // The probe fails: left alone for as long again. The next one is answered.
    until("it is probed", PATIENCE, async || (ask(&backend, &admin, &query).await.status == 502).then_some(())).await;
    assert_eq!((model.seen().len(), state().await.as_str()), (3, "open"));
    model.now(Script::Answer("Montevideo."));
    until("it answers again", PATIENCE, async || {
        let answer = ask(&backend, &admin, &query).await;
        if answer.status == 503 {
            return None;
        }
        answer.expect_status(200);
        Some(())
    })
    .await;
    assert_eq!((model.seen().len(), state().await.as_str()), (4, "closed"));
}
