//! `OpenAI`: the same answers through the door that `OpenAI`'s clients know.
//!
//! Read next: `sandbox.rs`.

use serde_json::{Value, json};

use crate::harness::backend::{ADMIN, Backend, Session};
use crate::harness::client::{Answer, send};
use crate::harness::events::{Event, Events};
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;

/// A query that looks up one thing.
const SIMPLE: &str = "What is the capital of Uruguay?";

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": SIMPLE }] })
}

fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

async fn complete(backend: &Backend, session: &Session, body: &Value) -> Answer {
    send(backend.post("/v1/chat/completions", body).bearer_auth(&session.access)).await
}

/// Fails unless this is a refusal in `OpenAI`'s form.
#[track_caller]
fn expect_error(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "expected {code}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    let error = answer.json()["error"].clone();
    assert_eq!(error["code"], code, "{answer:?}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{answer:?}");
    assert!(error.get("param").is_some(), "{answer:?}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_has_the_form_that_clients_know() {
    let model = FakeModel::start(Script::Answer("Monte video.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    let messages = json!([
        { "role": "developer", "content": "Be brief." },
        { "role": "user", "content": "Hello?" },
        { "role": "assistant", "content": "Hello." },
        { "role": "user", "content": [{ "type": "text", "text": SIMPLE }] },
    ]);
    let body = json!({
        "model": "m", "messages": messages, "max_completion_tokens": 50, "temperature": 0.5,
        "user": "somebody", "seed": 7, "n": 1, "stream": false, "top_p": 0.9,
    });
    let answer = complete(&backend, &admin, &body).await;
    answer.expect_status(200);
    let told = answer.json();
    assert!(answer.text("id").starts_with("chatcmpl-"), "{told}");
    assert_eq!((&told["object"], &told["model"]), (&json!("chat.completion"), &json!("m")), "{told}");
    assert!(told["created"].as_u64().is_some_and(|created| created > 1_700_000_000), "{told}");
    let choice = json!([{
        "index": 0,
        "message": { "role": "assistant", "content": "Monte video.", "refusal": null },
        "logprobs": null,
        "finish_reason": "stop",
    }]);
    assert_eq!(told["choices"], choice, "{told}");
    let usage = json!({ "prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18 });
    assert_eq!(told["usage"], usage, "{told}");
    assert_eq!(told["capibara6"]["routing"]["model"], "m", "{told}");
    assert_eq!(answer.header("x-cache"), "miss");

    let seen = model.seen();
    let sent = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Hello?" },
        { "role": "assistant", "content": "Hello." },
        { "role": "user", "content": SIMPLE },
    ]);
    assert_eq!(seen[0].body["messages"], sent, "the model hears the whole conversation");
    assert_eq!((&seen[0].body["max_tokens"], &seen[0].body["temperature"]), (&json!(50), &json!(0.5)));
    // The router chooses, and both doors share the cache.
    let routed = complete(&backend, &admin, &chat("auto")).await;
    assert_eq!(routed.expect_status(200).json()["model"], "m");
    let own = send(backend.query(&json!({ "query": SIMPLE })).bearer_auth(&admin.access)).await;
    assert_eq!(own.header("x-cache"), "hit", "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_the_form_that_clients_know() {
    let model = FakeModel::start(Script::Answer("Monte video.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    for (cached, with_usage) in [(false, true), (true, false)] {
        let mut body = with(chat("auto"), "stream", json!(true));
        if with_usage {
            body = with(body, "stream_options", json!({ "include_usage": true }));
        }
        let request = backend.post("/v1/chat/completions", &body).bearer_auth(&admin.access);
        let mut events = Events::open(request).await;
        assert_eq!(events.header("x-cache"), if cached { "hit" } else { "miss" });
        let events = events.rest().await;
        let (last, chunks) = events.split_last().expect("something is told");
        assert_eq!((last.name.as_str(), last.data.as_str()), ("", "[DONE]"), "{events:?}");
        let chunks: Vec<Value> = chunks.iter().map(Event::json).collect();
        let id = &chunks[0]["id"];
        for chunk in &chunks {
            assert_eq!(chunk["object"], "chat.completion.chunk", "{chunk}");
            assert_eq!((&chunk["id"], &chunk["model"]), (id, &json!("m")), "one answer, one id: {chunk}");
        }
        let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
        assert_eq!(deltas[0], &json!({ "role": "assistant", "content": "" }), "{chunks:?}");
        let text: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
        assert_eq!(text, "Monte video.");
        let reasons: Vec<&str> =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(reasons, ["stop"], "once, at the end: {chunks:?}");
        let usages: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk.get("usage")).collect();
        let usage = json!({ "prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18 });
        if with_usage {
            assert_eq!(usages, [&usage], "{chunks:?}");
            assert_eq!(chunks[chunks.len() - 1]["choices"], json!([]), "{chunks:?}");
        } else {
            assert!(usages.is_empty(), "nobody asked for it: {chunks:?}");
        }
    }
    // After the first word a failure can only be told in the stream.
    model.now(Script::Break("One two."));
    let body = with(with(chat("m"), "stream", json!(true)), "temperature", json!(0.1));
    let mut events = Events::open(backend.post("/v1/chat/completions", &body).bearer_auth(&admin.access)).await;
    events.event().await;
    model.release();
    let rest = events.rest().await;
    let last = rest.last().expect("it is told").json();
    assert_eq!(last["error"]["code"], "model_failed", "{rest:?}");
    assert!(rest.iter().all(|event| event.data != "[DONE]"), "it is not done: {rest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_form_that_clients_know() {
    let model = FakeModel::start(Script::Answer("Never.")).await;
    let entry = format!("{}, attempts_max: 1", model.setting("m", "small"));
    let backend = Backend::start(&Settings::development().model(entry)).await;
    let admin = backend.login(ADMIN).await;
    let cases = [
        (with(chat("m"), "n", json!(2)), "n"),
        (with(chat("m"), "tools", json!([{ "type": "function" }])), "tools"),
        (with(chat("m"), "functions", json!([{}])), "functions"),
        (with(chat("m"), "logprobs", json!(true)), "logprobs"),
        (with(chat("m"), "messages", json!([])), "messages"),
        (with(chat("m"), "messages", json!([{ "role": "user", "content": " " }])), "messages"),
        (with(chat("m"), "messages", json!([{ "role": "tool", "content": "x" }])), "messages"),
        (with(chat("m"), "messages", json!([{ "role": "assistant", "content": "x" }])), "messages"),
        (with(chat("m"), "max_tokens", json!(1_000_000)), "max_tokens"),
        (with(chat("m"), "temperature", json!(3)), "temperature"),
    ];
    for (body, param) in cases {
        for body in [body.clone(), with(body, "stream", json!(true))] {
            println!("{body}");
            let answer = complete(&backend, &admin, &body).await;
            let error = expect_error(&answer, 400, "input_invalid");
            assert_eq!(
                (&error["type"], &error["param"]),
                (&json!("invalid_request_error"), &json!(param)),
                "{error}"
            );
        }
    }
    let shapeless = [json!({}), json!([]), with(chat("m"), "messages", json!([{ "role": "user", "content": 7 }]))];
    for body in shapeless {
        let answer = complete(&backend, &admin, &body).await;
        let error = expect_error(&answer, 400, "input_invalid");
        for word in ["deserialize", "struct", "ChatRequest", "Content", "untagged"] {
            assert!(!error["message"].as_str().unwrap_or_default().contains(word), "{word} is told: {error}");
        }
    }
    let unknown = complete(&backend, &admin, &chat("gpt-0")).await;
    assert_eq!(expect_error(&unknown, 404, "not_found")["param"], "model");
    model.now(Script::Status(http::StatusCode::INTERNAL_SERVER_ERROR));
    for body in [chat("m"), with(chat("m"), "stream", json!(true))] {
        let failed = complete(&backend, &admin, &body).await;
        assert_eq!(expect_error(&failed, 502, "model_failed")["type"], "server_error");
    }
    let nobody = send(backend.post("/v1/chat/completions", &chat("m"))).await;
    assert_eq!(expect_error(&nobody, 401, "token_missing")["type"], "authentication_error");
    assert!(nobody.header("www-authenticate").starts_with("Bearer"), "{nobody:?}");
    let reader = backend.user(&admin, ("ann", "ann-has-a-password"), "readonly").await;
    let refused = complete(&backend, &reader, &chat("m")).await;
    assert_eq!(expect_error(&refused, 403, "permission_missing")["type"], "permission_error");
    expect_error(&send(backend.get("/v1/nowhere")).await, 404, "route_not_found");
    expect_error(&send(backend.get("/v1/chat/completions")).await, 405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_a_bearer_token_here() {
    let model = FakeModel::start(Script::Answer("Monte video.")).await;
    let backend = Backend::start(&Settings::development().model(model.setting("org/m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    let asks = backend.key(&admin, &json!({ "name": "asks", "permissions": ["execute"] })).await;
    let looks = backend.key(&admin, &json!({ "name": "looks", "permissions": ["read", "api_access"] })).await;
    let post = |key: &str| send(backend.post("/v1/chat/completions", &chat("auto")).bearer_auth(key));
    let list = |key: &str| send(backend.get("/v1/models").bearer_auth(key));
    post(&asks.key).await.expect_status(200);
    expect_error(&post(&looks.key).await, 403, "permission_missing");
    expect_error(&list(&asks.key).await, 403, "permission_missing");
    expect_error(&post("cap6_aaaaaaaaaaaa_no").await, 401, "key_invalid");
    let listed = list(&looks.key).await;
    let told = listed.expect_status(200).json();
    assert_eq!(told["object"], "list", "{told}");
    let models = told["data"].as_array().expect("a list");
    let ids: Vec<&Value> = models.iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, [&json!("auto"), &json!("org/m")], "{told}");
    assert!(models.iter().all(|model| model["object"] == "model" && model["created"].is_u64()), "{told}");
    for (path, status) in [("/v1/models/org/m", 200), ("/v1/models/auto", 200), ("/v1/models/gpt-0", 404)] {
        let answer = send(backend.get(path).bearer_auth(&looks.key)).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        if status == 404 {
            expect_error(&answer, 404, "not_found");
        }
    }
    let path = format!("/api/v1/api-keys/{}", asks.id);
    send(backend.delete(&path).bearer_auth(&admin.access)).await.expect_status(204);
    expect_error(&post(&asks.key).await, 401, "key_invalid");
}
