//! Several processes on one database, and their end.

use std::sync::Arc;

use serde_json::json;

use crate::harness::{Backend, client, eventually, folder};
use crate::model_server::ModelServer;

#[tokio::test]
async fn two_processes_share_one_database() {
    let folder = Arc::new(folder());
    // Both at once: migrations and the seed are done once.
    let (first, second) = tokio::join!(
        tokio::task::spawn_blocking({
            let folder = Arc::clone(&folder);
            move || Backend::start_in(&folder, "first.yaml", "")
        }),
        tokio::task::spawn_blocking({
            let folder = Arc::clone(&folder);
            move || Backend::start_in(&folder, "second.yaml", "")
        }),
    );
    let (first, second) = (first.expect("started"), second.expect("started"));
    let token = first.admin().await;
    assert_eq!(second.get("/auth/me", &token).await.status, 200);

    let (key, id) = first.api_key(&token, json!({ "name": "k" })).await;
    assert_eq!(second.introspect(&key).await.body["active"], true);
    assert_eq!(second.delete(&format!("/api/v1/api-keys/{id}"), &token).await.status, 204);
    assert_eq!(first.introspect(&key).await.body["active"], false, "a revocation holds everywhere at once");

    for round in 0..5 {
        let refresh = json!({ "refresh_token": first.login("admin", "admin123").await.text("refresh_token") });
        let (one, other) = tokio::join!(
            first.post_bare("/auth/refresh", refresh.clone()),
            second.post_bare("/auth/refresh", refresh.clone()),
        );
        let won = [&one, &other].iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "round {round}: {one:?} {other:?}");
    }
}

#[tokio::test]
async fn on_sigterm_requests_in_flight_are_finished() {
    let server = ModelServer::start().await;
    let model = server.model("held", "small", "held", ", connect_timeout: 1s").replace("timeout: 1s,", "timeout: 10s,");
    let mut backend = Backend::start(&format!("models:\n{model}"));
    let token = backend.admin().await;
    let url = format!("{}/api/v1/query", backend.api);
    let in_flight = tokio::spawn(client().post(&url).bearer_auth(&token).json(&json!({ "query": "Hi" })).send());
    eventually("the model is asked", async || server.asked() == 1).await;
    backend.terminate();
    eventually("new connections are refused", async || {
        client().get(format!("{}/health", backend.api)).send().await.is_err()
    })
    .await;
    server.release();
    let answer = in_flight.await.expect("no panic").expect("the request in flight is answered");
    assert_eq!(answer.status(), 200);
    let status = backend.ended().await;
    assert_eq!(status.code(), Some(0), "{}", backend.log());
    eventually("the log tells the end", async || backend.log().contains("\"message\":\"drained\"")).await;
}

#[tokio::test]
async fn users_and_keys_outlive_the_process_and_uses_are_written_at_the_end() {
    let folder = Arc::new(folder());
    let mut backend = Backend::start_in(&folder, "backend.yaml", "");
    let admin = backend.admin().await;
    backend.user(&admin, "ann", "user").await;
    let (key, _) = backend.api_key(&admin, json!({ "name": "k" })).await;
    assert_eq!(backend.introspect(&key).await.body["active"], true);
    backend.terminate();
    assert!(backend.ended().await.success());

    let again = Backend::start_in(&folder, "backend.yaml", "");
    again.token_of("ann", "password-of-ann").await;
    assert_eq!(again.introspect(&key).await.body["active"], true);
    let keys = again.get("/api/v1/api-keys", &admin).await;
    assert!(keys.body["items"][0]["last_used_at"].is_i64(), "{keys:?}");
}
