//! Queries: `/api/v1/query` and `/api/v1/models`, answered by the embedded model.
//!
//! Read next: `models.rs` for model servers.

use serde_json::{Value, json};

use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::send;
use crate::harness::events::{Events, text_of};
use crate::harness::settings::Settings;

/// What the embedded model is called, everywhere.
const EMBEDDED: &str = "capibara6-dev";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_answered_and_the_answer_says_how() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let text = "Rivers flow to the sea. Why do rivers flow, and why does water never run out of rivers?";
    let ask = || backend.query(&json!({ "query": text })).bearer_auth(&admin.access);
    let first = send(ask()).await;
    first.expect_status(200);
    let body = first.json();
    assert!(!first.text("id").is_empty());
    assert_eq!(body["model"], EMBEDDED, "{body}");
    assert_eq!(body["routing"]["model"], EMBEDDED, "{body}");
    assert!(body["routing"]["complexity"].as_u64().is_some_and(|score| (1..=100).contains(&score)), "{body}");
    let reason = body["routing"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("why"), "the reason names what it saw: {body}");
    assert_eq!((&body["cached"], first.header("x-cache")), (&json!(false), "miss"), "{body}");
    assert_eq!(
        (&body["finish_reason"], &body["ace"], body.get("e2b")),
        (&json!("stop"), &Value::Null, None),
        "{body}"
    );
    assert_eq!(body["usage"]["prompt_tokens"], text.split(' ').count(), "{body}");
    let answer = first.text("answer");
    assert_eq!(body["usage"]["completion_tokens"], answer.split(' ').count(), "{body}");
    assert!(body["duration_ms"].as_f64().is_some_and(|duration| duration >= 0.0), "{body}");
    // It says what it is, and computes what it says from the text.
    assert!(answer.starts_with(EMBEDDED), "{answer}");
    assert!(answer.contains("rivers (3)"), "{answer}");

    // The same again is known, and from another program the same as well.
    let second = send(ask()).await;
    second.expect_status(200);
    assert_eq!((&second.json()["cached"], second.header("x-cache")), (&json!(true), "hit"), "{second:?}");
    assert_eq!(second.text("answer"), answer);
    assert_ne!(second.text("id"), first.text("id"));
    let other = Backend::development().await;
    let session = other.login(ADMIN).await;
    let elsewhere = send(other.query(&json!({ "query": text })).bearer_auth(&session.access)).await;
    assert_eq!(elsewhere.text("answer"), answer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_answer_is_only_for_who_asked_and_for_what_was_asked() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let cached = async |token: &str, body: &Value| {
        let answer = send(backend.query(body).bearer_auth(token)).await;
        answer.expect_status(200);
        answer.json()["cached"].as_bool().expect("true or false")
    };
    let plain = json!({ "query": "What is kept?" });
    assert!(!cached(&admin.access, &plain).await);
    assert!(cached(&admin.access, &plain).await);
    assert!(!cached(&ann.access, &plain).await, "another caller");
    for other in [
        json!({ "query": "What is kept? " }),
        json!({ "query": "What is kept?", "max_tokens": 5 }),
        json!({ "query": "What is kept?", "temperature": 0.5 }),
        json!({ "query": "What is kept?", "temperature": 0.0 }),
    ] {
        assert!(!cached(&admin.access, &other).await, "{other}");
        assert!(cached(&admin.access, &other).await, "{other}");
    }
    // The model by its name is the model that was chosen: the same answer.
    assert!(cached(&admin.access, &json!({ "query": "What is kept?", "model": EMBEDDED })).await);
    let short = backend.query(&json!({ "query": "What is kept?", "max_tokens": 5 })).bearer_auth(&admin.access);
    assert_eq!(send(short).await.text("answer").split(' ').count(), 5);
    // A new session of the same user is the same caller.
    let again = backend.login(ADMIN).await;
    assert!(cached(&again.access, &plain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_is_checked() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let cases = [
        ("no query", json!({}), "query"),
        ("an empty query", json!({ "query": "" }), "query"),
        ("only spaces", json!({ "query": " \n " }), "query"),
        ("too long a query", json!({ "query": "x".repeat(32_769) }), "query"),
        ("a query that is a number", json!({ "query": 7 }), "query"),
        ("a model nobody knows", json!({ "query": "q", "model": "gpt-0" }), "model"),
        ("no tokens", json!({ "query": "q", "max_tokens": 0 }), "max_tokens"),
        ("too many tokens", json!({ "query": "q", "max_tokens": 1_000_000 }), "max_tokens"),
        ("fewer than no tokens", json!({ "query": "q", "max_tokens": -1 }), "max_tokens"),
        ("too hot", json!({ "query": "q", "temperature": 2.1 }), "temperature"),
        ("too cold", json!({ "query": "q", "temperature": -0.1 }), "temperature"),
        ("a temperature that is text", json!({ "query": "q", "temperature": "warm" }), "temperature"),
        ("a wish that is neither yes nor no", json!({ "query": "q", "execute": "yes" }), "execute"),
        ("a slip of the pen", json!({ "query": "q", "max_token": 7 }), "max_token"),
    ];
    for (what, body, word) in cases {
        println!("{what}");
        send(backend.query(&body).bearer_auth(&admin.access)).await.expect_input_invalid(word);
    }
    let longest = backend.query(&json!({ "query": "x".repeat(32_768) })).bearer_auth(&admin.access);
    send(longest).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_models_can_be_listed() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let answer = send(backend.get("/api/v1/models").bearer_auth(&admin.access)).await;
    answer.expect_status(200);
    let told: Vec<Value> = answer.items().iter().map(|item| json!([item["id"], item["provider"]])).collect();
    assert_eq!(told, [json!([EMBEDDED, "embedded"])], "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_answer_is_shared_where_the_operator_allows_it() {
    for (section, shared) in [("cache: { public: true }", true), ("cache: { public: false }", false)] {
        let backend = Backend::start(&Settings::development().section(section)).await;
        let admin = backend.login(ADMIN).await;
        let ann = backend.user(&admin, ("ann", "ann-has-a-password"), "user").await;
        let public = json!({ "query": "What is shared?", "public": true });
        send(backend.query(&public).bearer_auth(&admin.access)).await.expect_status(200);
        let other = send(backend.query(&public).bearer_auth(&ann.access)).await;
        assert_eq!(other.header("x-cache"), if shared { "hit" } else { "miss" }, "{section}");
        let private = send(backend.query(&json!({ "query": "What is shared?" })).bearer_auth(&admin.access)).await;
        assert_eq!(private.header("x-cache"), if shared { "miss" } else { "hit" }, "{section}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_model_streams_word_by_word() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let whole = send(backend.query(&json!({ "query": "What streams?" })).bearer_auth(&admin.access)).await;
    send(backend.delete("/api/v1/cache").bearer_auth(&admin.access)).await.expect_status(200);
    let body = json!({ "query": "What streams?", "stream": true });
    let events = Events::open(backend.query(&body).bearer_auth(&admin.access)).await.rest().await;
    assert_eq!(text_of(&events), whole.text("answer"));
    assert_eq!(events.len(), whole.text("answer").split(' ').count() + 2, "a word an event: {events:?}");
}
