//! GraphQL over WebSocket: answers bit by bit, and everything that a client may do wrong.
//!
//! Read next: nothing; this is the last room of GraphQL.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::token::now;
use testkit::wait::PATIENCE;
use tokio_tungstenite::tungstenite::Message;

use crate::graphql::{RootField, ask, root_fields};
use crate::harness::backend::{ADMIN, Backend, folder};
use crate::harness::client::send;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::Settings;
use crate::harness::socket::Socket;
use crate::harness::token::{SigningKey, token_of};

/// Every field of `Subscription`.
const FIELDS: [RootField; 1] =
    [("Subscription", "answer", "subscription { answer(input: { query: \"May I?\" }) { delta } }", &["execute"])];

/// An answer with everything that a client can ask of it.
const ANSWER: &str = "subscription { answer(input: { query: \"Why do rivers flow to the sea?\" }) { \
    routing { model complexity reason } delta done { id cached finishReason promptTokens completionTokens durationMs } } }";

/// How long a program may live when nothing is in flight any more.
const EXIT_WITHIN: Duration = Duration::from_secs(3);

/// A model that is asked and never answers.
async fn silent_backend(settings: Settings) -> (Backend, FakeModel) {
    let model = FakeModel::start(Script::Silence).await;
    (Backend::start(&settings.model(model.setting("m", "small"))).await, model)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_bit_by_bit() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let mut socket = Socket::known(&backend, &admin.access).await;
    for cached in [false, true] {
        socket.subscribe("a", ANSWER).await;
        let mut parts = Vec::new();
        loop {
            let message = socket.hear().await;
            assert_eq!(message["id"], "a", "{message}");
            if message["type"] == "complete" {
                break;
            }
            assert_eq!(message["type"], "next", "{message}");
            assert_eq!(message["payload"].get("errors"), None, "{message}");
            parts.push(message["payload"]["data"]["answer"].clone());
        }
        let [routing, deltas @ .., done] = &parts[..] else { panic!("three parts at least: {parts:?}") };
        assert_eq!(routing["routing"]["model"], "capibara6-dev", "{routing}");
        let text: String = deltas.iter().map(|part| part["delta"].as_str().expect("words")).collect();
        let whole = json!({ "query": "Why do rivers flow to the sea?" });
        let whole = send(backend.query(&whole).bearer_auth(&admin.access)).await;
        assert_eq!(text, whole.text("answer"), "{parts:?}");
        assert_eq!(done["done"]["cached"], cached, "{done}");
        assert_eq!(done["done"]["finishReason"], "stop", "{done}");
        assert!(done["done"]["completionTokens"].as_u64().is_some_and(|tokens| tokens > 0), "{done}");
        let things =
            |part: &Value| part.as_object().map(|fields| fields.values().filter(|value| !value.is_null()).count());
        assert!(parts.iter().all(|part| things(part) == Some(1)), "each part is one thing: {parts:?}");
    }
    let metrics = backend.metrics().await;
    let line = "backend_graphql_fields_total{field=\"answer\",operation=\"subscription\",outcome=\"ok\"} 2";
    assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    assert!(metrics.contains("backend_graphql_sockets 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_else_can_be_asked_as_well() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let bearer = format!("Bearer {}", admin.access);
    let mut socket = Socket::open(&backend, "/graphql/ws", &[("Authorization", bearer.as_str())]).await;
    // The upgrade has shown a credential already, as it does behind the gateway.
    socket.init(&Value::Null).await;
    for (document, expected) in [
        ("{ me { username } }", json!({ "data": { "me": { "username": ADMIN.0 } } })),
        ("mutation { clearCache { entries } }", json!({ "data": { "clearCache": { "entries": 0 } } })),
    ] {
        socket.subscribe("1", document).await;
        assert_eq!(socket.hear().await, json!({ "type": "next", "id": "1", "payload": expected }));
        assert_eq!(socket.hear().await, json!({ "type": "complete", "id": "1" }));
    }
    // What cannot be executed ends the operation, and not the connection.
    for (document, code) in [
        ("{ me {", "graphql_invalid"),
        ("{ you }", "graphql_invalid"),
        ("subscription { answer(input: { query: \"\" }) { delta } }", "input_invalid"),
    ] {
        socket.subscribe("2", document).await;
        let error = socket.hear().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("2")), "{error}");
        assert_eq!(error["payload"][0]["extensions"]["code"], code, "{error}");
        socket.say(&json!({ "type": "ping" })).await;
        assert_eq!(socket.hear().await["type"], "pong", "nothing of the operation follows its error");
    }
    socket.say(&json!({ "type": "subscribe", "id": "3", "payload": { "query": 7 } })).await;
    assert_eq!(socket.hear().await["payload"][0]["extensions"]["code"], "input_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscription_is_guarded_as_this_table_says() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let mut told = root_fields(&backend, &admin.access).await;
    told.retain(|(root, _)| root == "Subscription");
    let stated: BTreeSet<_> =
        FIELDS.iter().map(|(root, field, ..)| ((*root).to_owned(), (*field).to_owned())).collect();
    assert_eq!(told, stated, "a new field has to say here what it needs");
    for (_, field, document, needs) in FIELDS {
        for (permissions, expected) in [
            (["read", "write", "admin", "api_access", "graphql_access"].to_vec(), "error"),
            ([needs, &["graphql_access"]].concat(), "next"),
        ] {
            println!("{field} with {permissions:?}");
            let key = backend.key(&admin, &json!({ "name": "k", "permissions": permissions })).await;
            let mut socket = Socket::open(&backend, "/graphql", &[]).await;
            socket.init(&json!({ "X-API-Key": key.key })).await;
            socket.subscribe("1", document).await;
            let answer = socket.hear().await;
            assert_eq!(answer["type"], expected, "{answer}");
            if expected == "error" {
                assert_eq!(answer["payload"][0]["extensions"]["code"], "permission_missing", "{answer}");
            }
        }
        // Over HTTP there is no way to answer it.
        let refused = ask(&backend, &admin.access, document).await;
        assert_eq!(refused.json()["errors"][0]["extensions"]["code"], "graphql_invalid", "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_keep_to_the_protocol_is_hung_up_on_with_its_codes() {
    let settings = "socket: { init_timeout: 1s, message_max: 2KiB }";
    let (backend, _model) = silent_backend(Settings::development().graphql(settings)).await;
    let admin = backend.login(ADMIN).await;
    let bearer =
        |token: &str| json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {token}") } });
    let init = bearer(&admin.access);
    let readonly = backend.user(&admin, ("ann", "ann-has-a-password"), "readonly").await;
    let start = json!({ "type": "subscribe", "id": "1", "payload": { "query": ANSWER } });
    let long = "x".repeat(129);
    let cases: [(&str, Vec<Value>, u16); 13] = [
        ("nothing at all", vec![], 4408),
        ("an operation first", vec![start.clone()], 4401),
        ("no credential", vec![json!({ "type": "connection_init" })], 4401),
        ("a wrong credential", vec![bearer("garbage")], 4401),
        (
            "two credentials",
            vec![json!({ "type": "connection_init", "payload": { "authorization": "Bearer a", "x-api-key": "k" } })],
            4401,
        ),
        ("no right to be here", vec![bearer(&readonly.access)], 4403),
        ("saying twice who one is", vec![init.clone(), init.clone()], 4429),
        ("two of one name", vec![init.clone(), start.clone(), start], 4409),
        ("no message", vec![json!({ "type": "start" })], 4400),
        ("no object", vec![json!([])], 4400),
        ("no name", vec![init.clone(), json!({ "type": "subscribe", "id": "", "payload": {} })], 4400),
        ("a long name", vec![init.clone(), json!({ "type": "subscribe", "id": long, "payload": {} })], 4400),
        ("a long message", vec![init.clone(), json!({ "type": "ping", "payload": "x".repeat(3_000) })], 1009),
    ];
    for (what, messages, code) in cases {
        println!("{what}");
        let mut socket = Socket::open(&backend, "/graphql", &[]).await;
        for message in &messages {
            socket.say(message).await;
        }
        assert_eq!(socket.closed().await, code, "{what}");
    }
    let mut socket = Socket::open(&backend, "/graphql", &[]).await;
    socket.send(Message::binary(b"{}".to_vec())).await;
    assert_eq!(socket.closed().await, 4400, "a binary message");

    // What is no WebSocket of this kind is a problem, as everywhere.
    let cases: [(&str, &[(&str, &str)]); 3] = [
        ("/graphql/ws", &[]),
        ("/graphql/ws", &[("Upgrade", "websocket"), ("Connection", "Upgrade")]),
        (
            "/graphql",
            &[
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Protocol", "graphql-ws"),
            ],
        ),
    ];
    for (path, headers) in cases {
        let mut request = backend.graphql_request("GET", path).bearer_auth(&admin.access);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        println!("{path} {headers:?}");
        send(request).await.expect_problem(400, "request_malformed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_can_be_ended_and_gives_its_place_back() {
    let model = FakeModel::start(Script::Drip("One two three.")).await;
    let settings = Settings::development().graphql("socket: { operations_max: 1 }");
    let backend = Backend::start(&settings.model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    let mut socket = Socket::known(&backend, &admin.access).await;
    socket.subscribe("1", ANSWER).await;
    model.release();
    assert_eq!(socket.hear().await["payload"]["data"]["answer"]["routing"]["model"], "m");
    assert!(socket.hear().await["payload"]["data"]["answer"]["delta"].is_string());
    socket.subscribe("2", ANSWER).await;
    let refused = socket.hear().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("2")), "{refused}");
    assert_eq!(refused["payload"][0]["extensions"]["code"], "overloaded", "{refused}");
    // What was going on is ended, also the model's work: its name and its place are free.
    socket.say(&json!({ "type": "complete", "id": "1" })).await;
    model.until_left(1, PATIENCE).await;
    model.now(Script::Status(http::StatusCode::BAD_REQUEST));
    socket.subscribe("1", ANSWER).await;
    loop {
        let message = socket.hear().await;
        assert_eq!(message["id"], "1", "{message}");
        if message["type"] == "complete" {
            break;
        }
        let failed = &message["payload"]["errors"][0]["extensions"]["code"];
        assert_eq!(failed, "model_failed", "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_no_longer_holds_ends_the_connection() {
    let folder = folder();
    let signer = SigningKey::generate("k1");
    let settings = Settings::development().auth(format!("signing_keys: [{}]", signer.setting(folder.path())));
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let token = token_of("somebody", "read graphql_access").claim("exp", now() + 3).signed_by(&signer);
    let mut by_token = Socket::known(&backend, &token).await;
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read", "graphql_access"] })).await;
    let mut by_key = Socket::open(&backend, "/graphql", &[("X-API-Key", key.key.as_str())]).await;
    by_key.init(&json!({})).await;
    let mut lasting = Socket::known(&backend, &admin.access).await;

    let revoke = backend.delete(&format!("/api/v1/api-keys/{}", key.id)).bearer_auth(&admin.access);
    send(revoke).await.expect_status(204);
    // The next operation is refused at once, the silent connection a little later.
    by_key.subscribe("1", "{ models { id } }").await;
    assert_eq!(by_key.closed().await, 4401);
    assert_eq!(by_token.closed().await, 4401);
    lasting.subscribe("1", "{ models { id } }").await;
    assert_eq!(lasting.hear().await["type"], "next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_asked_whether_it_is_there() {
    let backend = Backend::start(&Settings::development().graphql("socket: { ping: 1s }")).await;
    let admin = backend.login(ADMIN).await;
    let mut socket = Socket::known(&backend, &admin.access).await;
    for _ in 0..3 {
        let frame = socket.frame().await;
        assert!(matches!(frame, Message::Ping(_)), "{frame:?}");
    }
    // Reading answers, so the connection is still there.
    socket.subscribe("1", "{ models { id } }").await;
    assert_eq!(socket.hear().await["type"], "next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_program_is_told_and_waited_for() {
    let (backend, model) = silent_backend(Settings::development().server("drain: 10s")).await;
    let admin = backend.login(ADMIN).await;
    let mut idle = Socket::known(&backend, &admin.access).await;
    let mut busy = Socket::known(&backend, &admin.access).await;
    busy.subscribe("1", ANSWER).await;
    model.until_asked(1, PATIENCE).await;
    backend.signal("TERM");
    assert_eq!(idle.closed().await, 1001);
    // What runs goes on; nothing new is begun.
    busy.subscribe("2", "{ me { id } }").await;
    let refused = busy.hear().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("2")), "{refused}");
    busy.say(&json!({ "type": "complete", "id": "1" })).await;
    assert_eq!(busy.closed().await, 1001);
    let over = Instant::now();
    let ended = backend.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(over.elapsed() < EXIT_WITHIN, "it lived on for {:?}:\n{}", over.elapsed(), ended.stderr);
}
