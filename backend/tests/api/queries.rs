//! `/api/v1/query` and `/api/v1/models`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Backend, folder, read};
use crate::model_server::ModelServer;

#[tokio::test]
async fn the_embedded_model_answers_and_its_answer_is_kept() {
    let backend = Backend::start("");
    let token = backend.admin().await;
    let body = json!({ "query": "Capybaras like water. Why do capybaras like water?" });
    let first = backend.post("/api/v1/query", &token, body.clone()).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!((first.text("model"), first.body["cached"].as_bool()), ("capibara6-dev".into(), Some(false)));
    assert!(first.text("answer").starts_with("capibara6-dev: "), "{first:?}");
    assert!(first.text("answer").contains("Keywords: capybaras (2), water (2)."), "{first:?}");
    assert_eq!(first.body["routing"]["model"], "capibara6-dev");
    assert_eq!(first.body["routing"]["complexity"], 15);
    assert!(first.body["routing"]["reason"].as_str().is_some_and(|reason| reason.contains("reasoning (why)")));
    assert_eq!(first.body["usage"]["prompt_tokens"], 8);
    assert!(first.body["duration_ms"].as_f64().is_some_and(|took| took > 0.0));

    let second = backend.post("/api/v1/query", &token, body.clone()).await;
    assert_eq!((second.body["cached"].as_bool(), second.text("answer")), (Some(true), first.text("answer")));
    assert_ne!(second.text("id"), first.text("id"));
    let other = backend.user(&token, "ann", "user").await;
    let others = backend.post("/api/v1/query", &other, body).await;
    assert_eq!(others.body["cached"], false, "an answer is kept for the one who asked");

    let models = backend.get("/api/v1/models", &token).await;
    assert_eq!(
        models.body,
        json!({ "items": [{ "id": "capibara6-dev", "size": "small", "provider": "embedded", "max_tokens": 512, "status": "answering" }] })
    );
    let metrics = read(backend.internal_request(Method::GET, "/metrics")).await;
    let metrics = metrics.body.as_str().expect("text").to_owned();
    for line in [
        "backend_queries_total{model=\"capibara6-dev\",source=\"cache\"} 1",
        "backend_queries_total{model=\"capibara6-dev\",source=\"model\"} 2",
        "backend_requests_total{class=\"2xx\",route=\"/api/v1/query\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn questions_that_cannot_be_asked_name_their_field() {
    let backend = Backend::start("");
    let token = backend.admin().await;
    let cases = [
        (json!({}), "query"),
        (json!({ "query": " " }), "query"),
        (json!({ "query": "x".repeat(32_769) }), "query"),
        (json!({ "query": "a", "model": "gpt-7" }), "model"),
        (json!({ "query": "a", "max_tokens": 0 }), "max_tokens"),
        (json!({ "query": "a", "max_tokens": -1 }), "max_tokens"),
        (json!({ "query": "a", "temperature": 2.1 }), "temperature"),
        (json!({ "query": "a", "temperature": "hot" }), "temperature"),
    ];
    for (body, field) in cases {
        let answer = backend.post("/api/v1/query", &token, body).await;
        answer.assert_problem(400, "input_invalid");
        assert!(answer.text("detail").contains(field), "{field} is not named: {answer:?}");
    }
}

async fn with_models(server: &ModelServer) -> Backend {
    let folder = Arc::new(folder());
    std::fs::write(folder.path().join("key"), "model-key").expect("written");
    let models = [
        server.model("quick", "small", "echo", ", key: \"file:key\", model: org/quick-8b, tokens_max: 64"),
        server.model("deep", "large", "echo", ""),
        server.model("failing", "large", "failing", ""),
        server.model("garbage", "large", "garbage", ""),
        server.model("empty", "large", "empty", ""),
        server.model("large", "large", "large", ", answer_max: 1KiB"),
        server.model("hanging", "large", "hanging", ""),
        "  - { id: gone, size: large, url: \"http://127.0.0.1:1/v1\" }\n".to_owned(),
    ];
    Backend::start_in(&folder, "backend.yaml", &format!("models:\n{}", models.concat()))
}

#[tokio::test]
async fn a_model_server_is_asked_in_its_own_words() {
    let server = ModelServer::start().await;
    let backend = with_models(&server).await;
    let token = backend.admin().await;
    let body = json!({ "query": "Where is Uruguay?", "max_tokens": 7, "temperature": 0.5 });
    let answer = backend.post("/api/v1/query", &token, body).await;
    assert_eq!((answer.status.as_u16(), answer.text("model")), (200, "quick".into()), "{answer:?}");
    let text = answer.text("answer");
    let (key, asked) = text.split_once(" {").expect("the key and the request");
    assert_eq!(key, "Bearer model-key");
    let asked: Value = serde_json::from_str(&format!("{{{asked}")).expect("JSON");
    assert_eq!(
        asked,
        json!({
            "model": "org/quick-8b", "max_tokens": 7, "temperature": 0.5, "stream": false,
            "messages": [{ "role": "user", "content": "Where is Uruguay?" }],
        })
    );
    assert_eq!(answer.body["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 5 }));

    let hard = json!({ "query": "Compare, contrast and explain these two designs, step by step." });
    let answer = backend.post("/api/v1/query", &token, hard).await;
    assert_eq!(answer.text("model"), "deep", "{answer:?}");
    assert!(answer.text("answer").starts_with("no key {"), "{answer:?}");
    let too_many = json!({ "query": "Where?", "model": "quick", "max_tokens": 65 });
    backend.post("/api/v1/query", &token, too_many).await.assert_problem(400, "input_invalid");
}

#[tokio::test]
async fn a_model_that_fails_is_told_from_one_that_is_slow() {
    let server = ModelServer::start().await;
    let backend = with_models(&server).await;
    let token = backend.admin().await;
    let ask = |model: &str| backend.post("/api/v1/query", &token, json!({ "query": "Hi", "model": model }));
    for model in ["failing", "garbage", "empty", "large", "gone"] {
        let answer = ask(model).await;
        answer.assert_problem(502, "model_failed");
        assert!(!answer.body.to_string().contains("SECRET"), "what the server said is not for clients: {answer:?}");
    }
    let started = Instant::now();
    ask("hanging").await.assert_problem(504, "model_timeout");
    assert!(started.elapsed() < Duration::from_secs(5), "the deadline is one second: {:?}", started.elapsed());
    let asked = server.asked();
    ask("failing").await.assert_problem(502, "model_failed");
    assert_eq!(server.asked(), asked + 1, "a failure is neither kept nor retried");
    assert!(!backend.log().contains("model-key"), "a key must not be logged");

    let health = read(backend.request(Method::GET, "/health/detailed")).await;
    let status_of = |id: &str| {
        let models = health.body["models"].as_array().expect("models");
        models.iter().find(|model| model["id"] == id).map(|model| model["status"].clone())
    };
    assert_eq!((status_of("failing"), status_of("quick")), (Some("failing".into()), Some("unused".into())));
    assert_eq!((health.status.as_u16(), health.text("status")), (200, "ok".into()));
}

#[tokio::test]
async fn who_ask_the_same_at_once_are_answered_by_one_call() {
    let server = ModelServer::start().await;
    let backend = Backend::start(&format!("models:\n{}", server.model("held", "small", "held", ", connect_timeout: 1s")));
    let token = backend.admin().await;
    let ask = || backend.post("/api/v1/query", &token, json!({ "query": "Hi" }));
    let release = async {
        crate::harness::eventually("the model is asked", async || server.asked() == 1).await;
        server.release();
    };
    let (first, second, ()) = tokio::join!(ask(), ask(), release);
    assert_eq!((first.text("answer"), second.text("answer")), ("released".into(), "released".into()));
    assert_eq!(server.asked(), 1);
    assert_eq!([&first, &second].iter().filter(|answer| answer.body["cached"] == true).count(), 1);
}
