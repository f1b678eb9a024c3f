//! Metrics: `/api/v1/metrics` and its history, which several processes keep together.
//!
//! Read next: `internal.rs` for what Prometheus reads.

use serde_json::{Value, json};
use testkit::token::now;
use testkit::wait::{PATIENCE, until};

use crate::graphql::ask;
use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::send;
use crate::harness::database;
use crate::harness::settings::Settings;

const PATH: &str = "/api/v1/metrics";

fn settings() -> Settings {
    Settings::development().section("metrics: { history: { every: 1s } }")
}

async fn history(backend: &Backend, admin: &Session, query: &str) -> Value {
    let request = backend.get(&format!("{PATH}/history?{query}")).bearer_auth(&admin.access);
    send(request).await.expect_status(200).json()
}

/// The sum of all steps of one label.
fn sum(told: &Value, label: &str) -> f64 {
    let points = told["points"].as_array().expect("points").iter();
    points.filter(|point| point["label"] == label).map(|point| point["value"].as_f64().expect("a number")).sum()
}

/// Whether all steps of one label together make this number.
fn makes(told: &Value, label: &str, number: f64) -> bool {
    (sum(told, label) - number).abs() < 0.5
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_tells_what_it_has_counted() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for _ in 0..2 {
        let query = backend.query(&json!({ "query": "What is counted?" })).bearer_auth(&admin.access);
        send(query).await.expect_status(200);
    }
    let answer = send(backend.get(PATH).bearer_auth(&admin.access)).await;
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    let numbers = answer.expect_status(200).json();
    let number = |name: &str| numbers[name].as_f64().unwrap_or_else(|| panic!("no {name}: {numbers}"));
    assert!(number("requests") >= 3.0 && number("logins") >= 1.0, "{numbers}");
    assert_eq!((number("queries").round(), number("cache_hits").round()), (2.0, 1.0), "{numbers}");
    assert!(number("errors") < 0.5 && number("tokens") > 0.0, "{numbers}");
    let by_graphql =
        ask(&backend, &admin.access, "{ systemMetrics { queries cacheHits errors jobsQueued tokens } }").await;
    let by_graphql = by_graphql.expect_status(200).json()["data"]["systemMetrics"].clone();
    assert_eq!(by_graphql["queries"], numbers["queries"], "{by_graphql}");
    assert_eq!(by_graphql["cacheHits"], numbers["cache_hits"], "{by_graphql}");
    assert_eq!(by_graphql["tokens"], numbers["tokens"], "{by_graphql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_processes_have_counted_adds_up() {
    let (folder, settings) = (folder(), settings());
    let backends = [Backend::start_in(&folder, &settings).await, Backend::start_in(&folder, &settings).await];
    let started = now();
    let admin = backends[0].login(ADMIN).await;
    for backend in &backends {
        for _ in 0..3 {
            send(backend.get("/api/v1/models").bearer_auth(&admin.access)).await.expect_status(200);
        }
    }
    let span = format!("metric=requests&from={}&to={}&step=3600", started - 1, started + 60);
    let told = until("both have kept what they counted", PATIENCE, async || {
        let told = history(&backends[0], &admin, &span).await;
        (sum(&told, "models") >= 6.0).then_some(told)
    })
    .await;
    assert_eq!((&told["metric"], &told["step"]), (&json!("requests"), &json!(3600)), "{told}");
    assert!(makes(&told, "models", 6.0), "{told}");
    assert!(makes(&told, "auth", 1.0), "{told}");
    // Either process tells the same, and GraphQL does.
    let other = history(&backends[1], &admin, &span).await;
    assert!(makes(&other, "models", 6.0), "{other}");
    let document = format!(
        "{{ metricsHistory(metric: \"requests\", from: {}, to: {}, step: 3600) {{ step points {{ at label value }} }} }}",
        started - 1,
        started + 60
    );
    let by_graphql = ask(&backends[1], &admin.access, &document).await;
    let by_graphql = by_graphql.expect_status(200).json()["data"]["metricsHistory"].clone();
    assert!(makes(&by_graphql, "models", 6.0), "{by_graphql}");

    let slow = history(&backends[0], &admin, "metric=latency_p95_seconds").await;
    assert!(sum(&slow, "models") > 0.0 && slow["step"] == 60, "{slow}");
    let mut open = database::open(folder.path()).await;
    let instances = open.number("SELECT count(DISTINCT instance) FROM metric_points").await;
    assert_eq!(instances, 2, "each process keeps rows of its own");

    // What was counted last is kept at the end.
    send(backends[1].get("/api/v1/cache").bearer_auth(&admin.access)).await.expect_status(200);
    let [one, two] = backends;
    two.stop().await;
    let told = history(&one, &admin, &span).await;
    assert!(makes(&told, "cache", 1.0), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_the_history_has_bounds() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    for (query, word) in [
        ("", "metric"),
        ("metric=coffee", "requests, errors"),
        ("metric=requests&from=5&to=5", "from"),
        ("metric=requests&from=-1", "from"),
        ("metric=requests&to=999999999999999", "to"),
        ("metric=requests&from=0&step=1", "1000 steps"),
        ("metric=requests&step=0", "step"),
        ("metric=requests&step=1.5", "step"),
        ("metric=requests&group=auth", "group"),
    ] {
        println!("{query}");
        let request = backend.get(&format!("{PATH}/history?{query}")).bearer_auth(&admin.access);
        send(request).await.expect_input_invalid(word);
    }
    let empty = history(&backend, &admin, "metric=errors&from=0&to=10&step=5").await;
    assert_eq!(empty, json!({ "metric": "errors", "from": 0, "to": 10, "step": 5, "points": [] }));
}
