//! Audit events: `/api/v1/audit-events`.
//!
//! Read next: `openapi.rs`.

use serde_json::json;

use crate::graphql::ask;
use crate::harness::backend::{ADMIN, Backend};
use crate::harness::client::{Answer, send};

const PATH: &str = "/api/v1/audit-events";

fn kinds(answer: &Answer) -> Vec<String> {
    answer.expect_status(200);
    answer.items().iter().map(|event| event["kind"].as_str().expect("a kind").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_sees_what_happened() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let list = async |query: &str| send(backend.get(&format!("{PATH}{query}")).bearer_auth(&admin.access)).await;

    let ann = json!({ "username": "ann", "password": "ann-has-a-password", "role": "readonly" });
    let ann = send(backend.post("/api/v1/users", &ann).bearer_auth(&admin.access)).await;
    ann.expect_status(201);
    let key = backend.key(&admin, &json!({ "name": "k", "permissions": ["read"] })).await;
    send(backend.try_login("mallory", "not-a-password")).await.expect_problem(401, "login_failed");

    let all = list("").await;
    let mut sorted = kinds(&all);
    sorted.sort();
    assert_eq!(sorted, ["api_key_created", "login_failed", "login_ok", "user_created"], "{all:?}");
    let times: Vec<i64> = all.items().iter().map(|event| event["at"].as_i64().expect("a time")).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "the newest come first: {times:?}");
    for secret in [ADMIN.1, "ann-has-a-password", "not-a-password", key.key.as_str(), admin.refresh.as_str()] {
        assert!(!all.body.contains(secret), "a secret is told: {all:?}");
    }

    let failed = list("?kind=login_failed").await;
    assert_eq!(kinds(&failed), ["login_failed"]);
    assert_eq!(failed.items()[0]["subject"], "mallory", "{failed:?}");
    assert_eq!(failed.items()[0]["client"], "127.0.0.1", "{failed:?}");
    assert!(failed.items()[0]["request_id"].is_string(), "{failed:?}");
    assert_eq!(kinds(&list("?subject=mallory").await), ["login_failed"]);
    assert_eq!(kinds(&list("?subject=mallory&kind=login_failed").await), ["login_failed"]);
    assert_eq!(kinds(&list("?subject=mallory&kind=login_ok").await), [""; 0]);
    let made = list("?kind=user_created").await;
    assert_eq!(made.items()[0]["detail"], ann.json()["id"], "{made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_comes_in_pages_and_takes_what_it_knows() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for number in 0..4 {
        let name = format!("nobody-{number}");
        send(backend.try_login(&name, "not-a-password")).await.expect_problem(401, "login_failed");
    }
    let list = async |query: &str| send(backend.get(&format!("{PATH}{query}")).bearer_auth(&admin.access)).await;
    // All of them may be of one second: each still comes once.
    let mut seen = Vec::new();
    let mut page = list("?limit=2&kind=login_failed").await;
    for _ in 0..3 {
        page.expect_status(200);
        seen.extend(page.items().iter().map(|event| event["subject"].as_str().expect("a name").to_owned()));
        let Some(cursor) = page.next_cursor() else { break };
        page = list(&format!("?limit=2&kind=login_failed&cursor={cursor}")).await;
    }
    seen.sort();
    assert_eq!(seen, ["nobody-0", "nobody-1", "nobody-2", "nobody-3"]);

    for (query, word) in [
        ("?kind=coffee_spilt", "kind must be one of login_ok"),
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?cursor=garbage", "cursor"),
        ("?before=1", "before"),
    ] {
        println!("{query}");
        list(query).await.expect_input_invalid(word);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphql_tells_the_same_events_in_the_same_order() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for number in 0..3 {
        let name = format!("nobody-{number}");
        send(backend.try_login(&name, "not-a-password")).await.expect_problem(401, "login_failed");
    }
    let rest = send(backend.get(PATH).bearer_auth(&admin.access)).await;
    let expected: Vec<String> = rest.items().iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(expected.len(), 4, "{rest:?}");

    let page = async |arguments: &str| {
        let fields = "pageInfo { hasNextPage endCursor } nodes { id at kind subject client requestId detail }";
        let answer = ask(&backend, &admin.access, &format!("{{ auditEvents({arguments}) {{ {fields} }} }}")).await;
        answer.expect_status(200).json()
    };
    let (mut told, mut after) = (Vec::new(), String::new());
    for _ in 0..expected.len() {
        let answer = page(&format!("first: 1{after}")).await;
        let events = &answer["data"]["auditEvents"];
        told.extend(events["nodes"].as_array().expect("a page").iter().map(|event| event["id"].to_string()));
        after = format!(", after: {}", events["pageInfo"]["endCursor"]);
        assert_eq!(events["pageInfo"]["hasNextPage"], told.len() < expected.len(), "{answer}");
    }
    assert_eq!(told, expected);

    let failed = page("kind: \"login_failed\", subject: \"nobody-1\"").await;
    let node = &failed["data"]["auditEvents"]["nodes"][0];
    assert_eq!((&node["kind"], &node["subject"]), (&json!("login_failed"), &json!("nobody-1")), "{failed}");
    assert_eq!(node["client"], "127.0.0.1", "{failed}");
    assert!(node["at"].is_i64() && node["requestId"].is_string(), "{failed}");
    let wrong = page("kind: \"coffee\"").await;
    assert_eq!(wrong["errors"][0]["extensions"]["code"], "input_invalid", "{wrong}");
}
