//! Revocations: what was withdrawn is refused on every gateway within a second, whatever is remembered.
//!
//! Read next: `cluster.rs` for what else gateways share.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use testkit::redis::Redis;
use testkit::token::now;
use testkit::wait::{PATIENCE, until};

use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, KeySource, scheme, token_of};
use crate::harness::server::{self, Server};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

/// How long a withdrawal may take to work everywhere.
const SOON: Duration = Duration::from_secs(1);

/// A feed that tells what it is given, from the cursor on.
async fn feed(entries: &Arc<Mutex<Vec<Value>>>) -> Server {
    let entries = Arc::clone(entries);
    Server::start(move |asked| {
        let after = asked.target.split_once("after=").and_then(|(_, cursor)| cursor.parse().ok()).unwrap_or(0);
        let entries = entries.lock().expect("no handler panicked");
        let answer = json!({ "cursor": entries.len().to_string(), "entries": entries[after..] });
        async move { server::json(StatusCode::OK, &answer) }
    })
    .await
}

/// Two gateways with the same settings, whose caches alone would remember for an hour.
async fn pair(folder: &Path, echo: &Echo, keys: &KeySource, others: &str) -> [Gateway; 2] {
    let settings = format!(
        "{HEAD}{HTTP}{}{others}auth:\n  tokens: {}\n  keys: {{ api_key: {{ introspection: {{ urls: [\"http://{}/\"], cache: 1h }} }} }}\n\
         routes:\n  - {{ id: a, path: /*, auth: [tokens, keys], require: [], to: api }}\n",
        upstream(&Pool::of(&[echo.address()])),
        scheme("ES256", &KEYS.jwks_file(folder)),
        keys.address(),
    );
    [Gateway::plain(&settings).await, Gateway::plain(&settings).await]
}

async fn bearer(gateway: &Gateway, token: &str) -> Answer {
    client::send(client::plain().get(gateway.url("/x")).bearer_auth(token)).await
}

async fn refused_on_both(gateways: &[Gateway; 2], what: &str, ask: impl AsyncFn(&Gateway) -> Answer, code: &str) {
    until(what, SOON, async || {
        let mut refused = true;
        for gateway in gateways {
            refused &= ask(gateway).await.status == 401;
        }
        refused.then_some(())
    })
    .await;
    for gateway in gateways {
        ask(gateway).await.expect_problem(401, code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_feed_tells_is_refused_everywhere_within_a_second() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let echo = Echo::start().await;
    let keys = KeySource::start().await;
    let entries = Arc::<Mutex<Vec<Value>>>::default();
    let server = feed(&entries).await;
    let others = format!("revocations: {{ urls: [\"http://{}/feed\"], every: 200ms }}\n", server.address);
    let gateways = pair(folder.path(), &echo, &keys, &others).await;
    let one = token_of("alice", "read").claim("jti", json!("t-1")).signed_by(&KEYS.es256);
    let other = token_of("alice", "read").claim("jti", json!("t-2")).signed_by(&KEYS.es256);
    let key = keys.issue("alice", "read");
    let sent = key.reveal();
    let by_key = async |gateway: &Gateway| {
        client::send(client::plain().get(gateway.url("/x")).header("X-API-Key", &sent)).await
    };
    for gateway in &gateways {
        bearer(gateway, &one).await.expect_status(200);
        bearer(gateway, &other).await.expect_status(200);
        by_key(gateway).await.expect_status(200);
    }
    let tell = |entry: Value| entries.lock().expect("no handler panicked").push(entry);
    tell(json!({ "kind": "token", "value": "t-1", "ends": now() + 60 }));
    refused_on_both(&gateways, "the token is refused", async |gateway| bearer(gateway, &one).await, "token_revoked")
        .await;
    bearer(&gateways[0], &other).await.expect_status(200);
    tell(json!({ "kind": "key", "value": key.id(), "ends": now() + 60 }));
    refused_on_both(&gateways, "the key is refused", by_key, "key_invalid").await;
    tell(json!({ "kind": "subject", "value": "alice", "issued_until": now(), "ends": now() + 60 }));
    refused_on_both(
        &gateways,
        "her tokens are refused",
        async |gateway| bearer(gateway, &other).await,
        "token_revoked",
    )
    .await;
    let later = token_of("alice", "read").claim("iat", json!(now() + 2)).signed_by(&KEYS.es256);
    bearer(&gateways[0], &later).await.expect_status(200);

    // What was heard is kept when nobody tells it any more, also through a reload.
    server.stop().await;
    gateways[0].until_metrics_say("gateway_revocation_feed_up 0").await;
    gateways[0].reload().await.expect_status(200);
    bearer(&gateways[0], &one).await.expect_problem(401, "token_revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_withdraws_at_one_gateway_is_refused_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let echo = Echo::start().await;
    let keys = KeySource::start().await;
    let mut redis = Redis::start().await;
    let gateways =
        pair(folder.path(), &echo, &keys, &format!("stores:\n  redis: {{ url: \"{}\" }}\n", redis.url())).await;
    let token = token_of("bob", "read").claim("jti", json!("t-3")).signed_by(&KEYS.es256);
    for gateway in &gateways {
        bearer(gateway, &token).await.expect_status(200);
        gateway.until_metrics_say("gateway_limit_store_up 1").await;
    }
    let answer = gateways[0].admin_post("/revocations", &json!({ "token_id": "t-3", "seconds": 600 })).await;
    answer.expect_status(200);
    assert_eq!(answer.json()["shared"], "yes");
    refused_on_both(
        &gateways,
        "the token is refused",
        async |gateway| bearer(gateway, &token).await,
        "token_revoked",
    )
    .await;
    for wrong in
        [json!({}), json!({ "token_id": "a", "subject": "b" }), json!({ "token_id": "" }), json!({ "what": 1 })]
    {
        gateways[0].admin_post("/revocations", &wrong).await.expect_status(400);
    }
    // A store that comes back empty is told again, so that a gateway which starts later knows as well.
    redis.kill();
    redis.restart().await;
    until("the store has it again", PATIENCE, async || {
        redis.command(&["ZCARD", "{capibara6:withdrawn}:list"]).contains(":1").then_some(())
    })
    .await;
    bearer(&gateways[1], &token).await.expect_problem(401, "token_revoked");
    assert_eq!(gateways[1].admin("/revocations").await.json()["entries"][0]["value"], "t-3");
}
