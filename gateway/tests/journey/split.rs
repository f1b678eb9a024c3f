//! Split: several upstreams behind one route, each for its share.
//!
//! Read next: `mirror.rs` for upstreams that get copies, `balance.rs` for the servers of one upstream.

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::settings::{HEAD, HTTP, targets as at};
use crate::harness::upstream::{Echo, Fault, Faulty};

/// A route before `api` and `next`.
fn settings(api: &str, next: &str, split: &str) -> String {
    format!(
        "{HEAD}{HTTP}upstreams:\n  api: {{ {api} }}\n  next: {{ {next} }}\n\
         routes:\n  - {{ id: open, path: /*, auth: none, {split} }}\n"
    )
}

fn weights(api: u16, next: u16) -> String {
    format!("split: [{{ to: api, weight: {api} }}, {{ to: next, weight: {next} }}]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_upstream_gets_its_share_and_is_named() {
    const REQUESTS: usize = 400;
    let (api, next) = (Echo::start().await, Echo::start().await);
    let settings = settings(&at(&[api.address()]), &at(&[next.address()]), &weights(80, 20));
    let gateway = Gateway::plain(&settings).await;
    let client = client::plain();
    for _ in 0..REQUESTS {
        client::send(client.get(gateway.url("/x"))).await.expect_status(200);
    }
    let canary = next.count();
    assert_eq!(api.count() + canary, REQUESTS);
    // Five standard deviations around eighty.
    assert!((40..=120).contains(&canary), "{canary} of {REQUESTS}");
    let line = gateway.access_log("a request to the next one", |line| line["to"] == "next").await;
    assert_eq!(line["upstream"], next.address().to_string());
    let counted = format!("gateway_upstream_requests_total{{route=\"open\",upstream=\"next\"}} {canary}");
    gateway.until_metrics_say(&counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_caller_gets_the_same_side_and_few_move() {
    const CALLERS: usize = 120;
    let (api, next) = (Echo::start().await, Echo::start().await);
    let by_user = |api_weight, next_weight| {
        let split = format!("{}, split_by: header.X-User", weights(api_weight, next_weight));
        settings(&at(&[api.address()]), &at(&[next.address()]), &split)
    };
    let gateway = Gateway::plain(&by_user(80, 20)).await;
    let client = client::plain();
    let on_next = async |user: usize| {
        let before = next.count();
        client::send(client.get(gateway.url("/x")).header("X-User", user)).await.expect_status(200);
        next.count() > before
    };
    let mut first = Vec::new();
    for user in 0..CALLERS {
        let side = on_next(user).await;
        assert_eq!(on_next(user).await, side, "user {user} comes again");
        first.push(side);
    }
    let canaries = first.iter().filter(|side| **side).count();
    assert!((5..=50).contains(&canaries), "{canaries} of {CALLERS}");
    gateway.rewrite(&by_user(50, 50));
    gateway.reload().await.expect_status(200);
    let mut moved = 0;
    for (user, before) in first.iter().enumerate() {
        let now = on_next(user).await;
        assert!(now || !before, "user {user} leaves the side that has grown");
        moved += usize::from(now != *before);
    }
    assert!((10..=70).contains(&moved), "{moved} of {CALLERS} move for three tenths of the weight");
    assert!(api.count() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_stay_on_the_side_and_go_by_its_rules() {
    let (api, next) = (Echo::start().await, Echo::start().await);
    let broken = Faulty::start(Fault::HangUp).await;
    let pool = format!("{}, retry: {{ attempts: 2, backoff: 1ms }}", at(&[broken.address, next.address()]));
    let gateway = Gateway::plain(&settings(&at(&[api.address()]), &pool, &weights(0, 1))).await;
    for _ in 0..6 {
        client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
    }
    assert!(broken.count() > 0 && next.count() == 6 && api.count() == 0);

    let silent = Faulty::start(Fault::Silence).await;
    let slow = format!("{}, timeouts: {{ first_byte: 300ms }}", at(&[silent.address]));
    let gateway = Gateway::plain(&settings(&at(&[api.address()]), &slow, &weights(0, 1))).await;
    client::send(client::plain().get(gateway.url("/x"))).await.expect_problem(504, "upstream_timeout");
    let line = gateway.access_log("who did not answer", |line| line["code"] == "upstream_timeout").await;
    assert_eq!((&line["policy"], &line["to"]), (&"next".into(), &"next".into()));
}
