//! Sandbox and playbooks: what is added to a question, and what is done with its answer.
//!
//! Read next: `processes.rs`.

use http::StatusCode;
use serde_json::{Value, json};
use testkit::wait::{PATIENCE, until};
use tokio::net::TcpListener;

use crate::harness::backend::{ADMIN, Backend, Session, folder, run};
use crate::harness::client::send;
use crate::harness::events::Events;
use crate::harness::model::{FakeModel, Script};
use crate::harness::sandbox::{FakeE2b, FakeSandbox, Held};
use crate::harness::settings::{Settings, secret_file};

/// An answer with code in it.
const WITH_CODE: &str = "Like this:\n\n```python\nprint(6 * 7)\n```\nThat is all.";

/// A playbook about rivers.
const RIVERS: &str = "\
---
id: rivers
title: About rivers
keywords: [river, delta, \"sand bank\"]
complexity: simple
---
Speak of water.
";

async fn e2b(backend: &Backend, session: &Session, body: &Value) -> Option<Value> {
    let answer = send(backend.query(body).bearer_auth(&session.access)).await;
    answer.expect_status(200);
    answer.json().get("e2b").cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_is_run_in_the_sandbox_when_the_client_says_so() {
    let model = FakeModel::start(Script::Answer(WITH_CODE)).await;
    let ran = json!({ "stdout": "42\n", "stderr": "", "exit_code": 0, "error": null });
    let sandbox = FakeSandbox::start(ran).await;
    let folder = folder();
    let key = secret_file(folder.path(), "sandbox-key", "sk-of-the-sandbox");
    let section = format!("sandbox: {{ url: \"{}\", key: {key}, timeout: 5s, output_max: 1KiB }}", sandbox.url());
    let settings = Settings::development().model(model.setting("m", "small")).section(&section);
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let wish = json!({ "query": "What is 6 times 7?", "execute": true });

    assert_eq!(e2b(&backend, &admin, &json!({ "query": "What is 6 times 7?" })).await, None, "nobody asked for it");
    assert!(sandbox.seen().is_empty());
    // The answer is kept, what its code does is not.
    for _ in 0..2 {
        let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
        assert_eq!((&told["executed"], &told["stdout"]), (&json!(true), &json!("42\n")), "{told}");
        assert_eq!((&told["stderr"], &told["exit_code"]), (&json!(""), &json!(0)), "{told}");
        assert!(told["took_ms"].is_f64() && told.get("error").is_none(), "{told}");
    }
    assert_eq!(model.seen().len(), 1);
    let sent = json!({ "code": "print(6 * 7)\n", "language": "python", "timeout_ms": 5_000 });
    let credential = Some("Bearer sk-of-the-sandbox".to_owned());
    assert_eq!(sandbox.seen(), [(credential.clone(), sent.clone()), (credential, sent)]);

    let streamed = json!({ "query": "What is 6 times 7?", "execute": true, "stream": true });
    let events = Events::open(backend.query(&streamed).bearer_auth(&admin.access)).await.rest().await;
    assert_eq!(events.last().expect("done").json()["e2b"]["stdout"], "42\n", "{events:?}");

    // What the code writes has an end, and what it does wrong is its own affair.
    sandbox.now(StatusCode::OK, json!({ "stdout": "ä".repeat(1_000), "stderr": "Traceback", "exit_code": 1 }));
    let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
    assert_eq!((&told["executed"], &told["exit_code"]), (&json!(true), &json!(1)), "{told}");
    assert_eq!(told["stdout"], "ä".repeat(512), "1 KiB of it: {told}");
    model.now(Script::Answer("No code at all."));
    let told = e2b(&backend, &admin, &json!({ "query": "No code?", "execute": true })).await.expect("asked for");
    assert_eq!(told["executed"], false, "{told}");
    assert!(told["error"].as_str().is_some_and(|why| why.contains("python")), "{told}");
    assert!(!backend.said().contains("sk-of-the-sandbox"), "the sandbox's key is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_fails_does_not_fail_the_answer() {
    let model = FakeModel::start(Script::Answer(WITH_CODE)).await;
    let sandbox = FakeSandbox::start(Value::Null).await;
    let section = format!("sandbox: {{ url: \"{}\" }}", sandbox.url());
    let settings = Settings::development().model(model.setting("m", "small")).section(&section);
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let wish = json!({ "query": "What is 6 times 7?", "execute": true });
    let cases = [
        ("a fault", StatusCode::INTERNAL_SERVER_ERROR, json!({}), "answered 500"),
        ("nonsense", StatusCode::OK, json!([7]), "malformed"),
        ("too much", StatusCode::OK, json!({ "stdout": "x".repeat(5 * 1024 * 1024) }), "too large"),
        ("a limit of its own", StatusCode::OK, json!({ "exit_code": null, "error": "time is up" }), "time is up"),
    ];
    for (what, status, answer, why) in cases {
        println!("{what}");
        sandbox.now(status, answer);
        let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
        assert_eq!(told["executed"], false, "{what}: {told}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains(why)), "{what}: {told}");
    }
    // The log says why, and that is no place for whatever was answered.
    sandbox.now(StatusCode::OK, json!({ "exit_code": "y".repeat(100_000) }));
    e2b(&backend, &admin, &wish).await.expect("it was asked for");
    until("it is in the log", PATIENCE, async || backend.said().contains("yyy").then_some(())).await;
    assert!(!backend.said().contains(&"y".repeat(2_000)), "the log holds what the sandbox likes");

    // Bound and closed again: nothing listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    drop(listener);
    let section = format!("sandbox: {{ url: \"http://{address}\" }}");
    let settings = Settings::development().model(model.setting("m", "small")).section(&section);
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
    assert!(told["error"].as_str().is_some_and(|error| error.contains("cannot be reached")), "{told}");
    assert!(!told.to_string().contains(&address.to_string()), "addresses stay inside: {told}");

    // Without a sandbox nothing is run, and nothing is told of it.
    let backend = Backend::start(&Settings::development().model(model.setting("m", "small"))).await;
    let admin = backend.login(ADMIN).await;
    assert_eq!(e2b(&backend, &admin, &wish).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_piece_of_code_has_a_sandbox_of_e2b_to_itself() {
    let model = FakeModel::start(Script::Answer(WITH_CODE)).await;
    let service = FakeE2b::start().await;
    let folder = folder();
    let key = secret_file(folder.path(), "e2b-key", "e2b_0123456789");
    let url = service.url();
    let section =
        format!("sandbox: {{ protocol: e2b, url: \"{url}\", run_at: \"{url}/{{id}}\", key: {key}, timeout: 5s }}");
    let settings = Settings::development().model(model.setting("m", "small")).section(&section);
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let wish = json!({ "query": "What is 6 times 7?", "execute": true });

    service.says(&[
        json!({ "type": "stdout", "text": "Thinking.\n", "timestamp": 1 }),
        json!({ "type": "result", "text": "42", "is_main_result": true, "extra": {} }),
        json!({ "type": "number_of_executions", "execution_count": 1 }),
        json!({ "type": "end_of_execution" }),
    ]);
    let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
    assert_eq!((&told["executed"], &told["exit_code"]), (&json!(true), &json!(0)), "{told}");
    assert_eq!((&told["stdout"], &told["stderr"]), (&json!("Thinking.\n42\n"), &json!("")), "{told}");

    let raised = json!({ "type": "error", "name": "ValueError", "value": "no", "traceback": "Traceback: no" });
    service.says(&[raised, json!({ "type": "end_of_execution" })]);
    let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
    assert_eq!((&told["executed"], &told["exit_code"]), (&json!(true), &json!(1)), "{told}");
    assert_eq!(told["stderr"], "Traceback: no", "{told}");

    // One each, ended after it. Nobody waits for the end, so it may come later than what follows.
    let mut calls = until("both have ended", PATIENCE, async || {
        let calls = service.calls();
        (calls.iter().filter(|(what, ..)| what.starts_with("DELETE")).count() == 2).then_some(calls)
    })
    .await;
    calls.sort_by_key(|call| call.0.clone());
    let api_key = Some("e2b_0123456789".to_owned());
    let wanted =
        json!({ "templateID": "code-interpreter-v1", "timeout": 17, "secure": true, "allow_internet_access": false });
    let run = json!({ "code": "print(6 * 7)\n", "language": "python" });
    let expected = [
        ("DELETE /sandboxes/box-1".to_owned(), api_key.clone(), Value::Null),
        ("DELETE /sandboxes/box-2".to_owned(), api_key.clone(), Value::Null),
        ("POST /box-1/execute".to_owned(), Some("of-box-1".to_owned()), run.clone()),
        ("POST /box-2/execute".to_owned(), Some("of-box-2".to_owned()), run),
        ("POST /sandboxes".to_owned(), api_key.clone(), wanted.clone()),
        ("POST /sandboxes".to_owned(), api_key, wanted),
    ];
    assert_eq!(calls, expected);

    service.refuses(StatusCode::UNAUTHORIZED);
    let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
    assert_eq!(told["executed"], false, "{told}");
    assert!(told["error"].as_str().is_some_and(|why| why.contains("answered 401")), "{told}");
    for secret in ["e2b_0123456789", "of-box-1"] {
        assert!(!backend.said().contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_of_e2b_ends_whoever_has_left_and_whatever_it_runs() {
    let model = FakeModel::start(Script::Answer(WITH_CODE)).await;
    let service = FakeE2b::start().await;
    let url = service.url();
    let section = format!("sandbox: {{ protocol: e2b, url: \"{url}\", run_at: \"{url}/{{id}}\", timeout: 1s }}");
    let settings = Settings::development().model(model.setting("m", "small")).section(&section);
    let backend = Backend::start(&settings).await;
    let admin = backend.login(ADMIN).await;
    let wish = json!({ "query": "What is 6 times 7?", "execute": true });
    let said = || service.calls().into_iter().map(|(what, ..)| what).collect::<Vec<_>>();

    // A client leaves while its sandbox starts.
    service.holds(Held::Making);
    let streamed = json!({ "query": "What is 6 times 7?", "execute": true, "stream": true });
    let waiting = tokio::spawn(send(backend.query(&streamed).bearer_auth(&admin.access)));
    until("a sandbox is wanted", PATIENCE, async || (said().len() == 1).then_some(())).await;
    waiting.abort();
    backend.until_metrics_say("backend_streams 0").await;
    service.holds(Held::Running);
    let expected = ["POST /sandboxes", "DELETE /sandboxes/box-1"];
    until("its sandbox is ended", PATIENCE, async || (said() == expected).then_some(())).await;

    // Code has its own time, also where the sandbox was there at once.
    let told = e2b(&backend, &admin, &wish).await.expect("it was asked for");
    assert!(told["error"].as_str().is_some_and(|why| why.contains("in time")), "{told}");
    assert!(told["took_ms"].as_f64().is_some_and(|took_ms| took_ms < 9_000.0), "1 s, and 2 s to say so: {told}");
    let ended = "DELETE /sandboxes/box-2".to_owned();
    until("its sandbox is ended", PATIENCE, async || said().contains(&ended).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playbook_is_put_before_a_question_that_it_fits() {
    let model = FakeModel::start(Script::Answer("Water.")).await;
    let folder = folder();
    let books = folder.path().join("books");
    std::fs::create_dir(&books).expect("a temporary folder can be written");
    std::fs::write(books.join("rivers.md"), RIVERS).expect("a temporary folder can be written");
    let settings = Settings::development().model(model.setting("m", "small")).section("playbooks: { path: books }");
    let backend = Backend::start_in(&folder, &settings).await;
    let admin = backend.login(ADMIN).await;
    let fitting = "Has the river a delta?";
    let answer = send(backend.query(&json!({ "query": fitting })).bearer_auth(&admin.access)).await;
    answer.expect_status(200);
    let text = "# About rivers\n\nSpeak of water.";
    let ace = json!({ "playbook": "rivers", "score": 2, "added_chars": text.len() });
    assert_eq!(answer.json()["ace"], ace, "{answer:?}");
    let sent = json!([{ "role": "system", "content": text }, { "role": "user", "content": fitting }]);
    assert_eq!(model.seen()[0].body["messages"], sent);

    let streamed = json!({ "query": fitting, "stream": true });
    let events = Events::open(backend.query(&streamed).bearer_auth(&admin.access)).await.rest().await;
    assert_eq!(events.last().expect("done").json()["ace"], ace, "{events:?}");
    let chat = json!({ "model": "auto", "messages": [{ "role": "user", "content": fitting }] });
    let completion = send(backend.post("/v1/chat/completions", &chat).bearer_auth(&admin.access)).await;
    assert_eq!(completion.expect_status(200).json()["capibara6"]["ace"], ace, "{completion:?}");
    let other = send(backend.query(&json!({ "query": "Has the river a bed?" })).bearer_auth(&admin.access)).await;
    assert_eq!(other.expect_status(200).json()["ace"], Value::Null, "one word is not enough: {other:?}");

    // A playbook with mistakes is told before anything starts.
    std::fs::write(books.join("broken.md"), "No front matter.").expect("a temporary folder can be written");
    let ended = run(&["check"], &settings.write(folder.path()), "").await;
    assert_eq!(ended.status.code(), Some(64), "{ended:?}");
    assert!(ended.stderr.contains("broken.md:1:1: must begin with front matter"), "{ended:?}");
}
