//! Shared answers: what one process keeps another finds in Redis, and nobody misses anything while Redis is away.
//!
//! Read next: `harness/mod.rs`.

use serde_json::{Value, json};
use testkit::redis::{Redis, free_address};
use testkit::wait::{PATIENCE, until};

use crate::graphql::ask;
use crate::harness::authority;
use crate::harness::backend::{ADMIN, Backend, Session, folder};
use crate::harness::client::send;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::{Settings, secret_file};

/// Two processes with one database and one Redis, and the administrator at both.
async fn two_with(redis: &Redis, settings: Settings) -> (Backend, Backend, Session) {
    two_at(&format!("url: \"{}\"", redis.url()), settings).await
}

/// The same, with a Redis that is found like this.
async fn two_at(place: &str, settings: Settings) -> (Backend, Backend, Session) {
    let section = format!("redis: {{ {place}, timeout: 1s, answer_max: 2KiB }}");
    let (folder, settings) = (folder(), settings.section(&section));
    let one = Backend::start_in(&folder, &settings).await;
    let two = Backend::start_in(&folder, &settings).await;
    until_up(&one, true).await;
    until_up(&two, true).await;
    let admin = one.login(ADMIN).await;
    (one, two, admin)
}

async fn until_up(backend: &Backend, up: bool) {
    backend.until_metrics_say(&format!("backend_redis_up {}", u8::from(up))).await;
}

/// Whether the answer was kept: `hit` or `miss`.
async fn x_cache(backend: &Backend, token: &str, body: &Value) -> String {
    let answer = send(backend.query(body).bearer_auth(token)).await;
    answer.expect_status(200);
    answer.header("x-cache").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_keeps_another_finds() {
    let redis = Redis::start().await;
    let (one, two, admin) = two_with(&redis, Settings::development().section("cache: { public: true }")).await;
    let ann = one.user(&admin, ("ann", "ann-has-a-password"), "user").await;
    let body = json!({ "query": "What is kept for all?" });
    let first = send(one.query(&body).bearer_auth(&admin.access)).await;
    assert_eq!(first.header("x-cache"), "miss", "{first:?}");
    let second = send(two.query(&body).bearer_auth(&admin.access)).await;
    assert_eq!(second.header("x-cache"), "hit", "{second:?}");
    let told = |answer: &Value| {
        [&answer["answer"], &answer["usage"], &answer["model"], &answer["finish_reason"], &answer["routing"]]
            .map(Clone::clone)
    };
    assert_eq!(told(&first.json()), told(&second.json()), "the same in every respect");
    assert_eq!(x_cache(&two, &admin.access, &body).await, "hit", "from its own memory");

    // It is nobody else's, in neither process.
    assert_eq!(x_cache(&two, &ann.access, &body).await, "miss");
    let stats = send(two.get("/api/v1/cache").bearer_auth(&admin.access)).await.json();
    let told = (&stats["hits"], &stats["shared_hits"], &stats["misses"]);
    assert_eq!(told, (&json!(2), &json!(1), &json!(1)), "{stats}");
    let counted = two.metrics().await;
    for (layer, count) in [("local", 1), ("redis", 1), ("miss", 1)] {
        let line = format!("backend_cache_lookups_total{{layer=\"{layer}\"}} {count}");
        assert!(counted.contains(&line), "{line} is not in\n{counted}");
    }
    let shown = ask(&two, &admin.access, "{ cacheStats { hits sharedHits } }").await.json();
    assert_eq!(shown["data"]["cacheStats"], json!({ "hits": 2, "sharedHits": 1 }), "{shown}");

    // A stream leaves its answer there, and finds what is there.
    let streamed = json!({ "query": "What streams for all?", "stream": true });
    send(one.query(&streamed).bearer_auth(&admin.access)).await.expect_status(200);
    assert_eq!(x_cache(&two, &admin.access, &json!({ "query": "What streams for all?" })).await, "hit");
    // What is public is everybody's.
    let public = json!({ "query": "What is public?", "public": true });
    assert_eq!(x_cache(&one, &admin.access, &public).await, "miss");
    assert_eq!(x_cache(&two, &ann.access, &public).await, "hit");
    // No name in Redis tells who asked, or what.
    let names = redis.command(&["KEYS", "*"]);
    assert!(names.contains("capibara6-backend:answers:") && !names.contains("kept"), "{names}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_clears_no_other_gives_out() {
    let mut redis = Redis::start().await;
    let (one, two, admin) = two_with(&redis, Settings::development()).await;
    let bodies = [json!({ "query": "In both memories?" }), json!({ "query": "In one memory?" })];
    assert_eq!(x_cache(&one, &admin.access, &bodies[0]).await, "miss");
    assert_eq!(x_cache(&two, &admin.access, &bodies[0]).await, "hit");
    assert_eq!(x_cache(&one, &admin.access, &bodies[1]).await, "miss");
    send(one.delete("/api/v1/cache").bearer_auth(&admin.access)).await.expect_status(200);
    // From Redis it is gone at once, from the other's memory as soon as it hears of it.
    assert_eq!(x_cache(&two, &admin.access, &bodies[1]).await, "miss");
    until("the other process has heard of it", PATIENCE, async || {
        (x_cache(&two, &admin.access, &bodies[0]).await == "miss").then_some(())
    })
    .await;

    // Cleared while Redis is away: what it kept through that is void when it is back.
    let kept = json!({ "query": "Void?" });
    assert_eq!(x_cache(&one, &admin.access, &kept).await, "miss");
    redis.freeze();
    send(one.delete("/api/v1/cache").bearer_auth(&admin.access)).await.expect_status(200);
    until_up(&one, false).await;
    redis.thaw();
    until_up(&one, true).await;
    assert_eq!(x_cache(&one, &admin.access, &kept).await, "miss");
    redis.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_answers_go_on() {
    let mut redis = Redis::start().await;
    let (one, two, admin) = two_with(&redis, Settings::development()).await;
    let known = json!({ "query": "Known before?" });
    assert_eq!(x_cache(&one, &admin.access, &known).await, "miss");
    redis.kill();
    until_up(&one, false).await;
    assert_eq!(x_cache(&one, &admin.access, &known).await, "hit", "from memory");
    assert_eq!(x_cache(&two, &admin.access, &known).await, "miss", "each by itself");
    assert_eq!(x_cache(&two, &admin.access, &known).await, "hit");
    send(two.get("/health")).await.expect_status(200);
    let away = one.said().matches("Redis is away").count();
    assert_eq!(away, 1, "once an outage:\n{}", one.said());

    // It comes back empty, and is filled again.
    redis.restart().await;
    until_up(&one, true).await;
    until_up(&two, true).await;
    let after = json!({ "query": "Asked afterwards?" });
    assert_eq!(x_cache(&one, &admin.access, &after).await, "miss");
    assert_eq!(x_cache(&two, &admin.access, &after).await, "hit");

    // A program that starts while Redis is away starts.
    redis.kill();
    let settings = Settings::development().section(&format!("redis: {{ url: \"{}\" }}", redis.url()));
    let alone = Backend::start(&settings).await;
    let admin = alone.login(ADMIN).await;
    assert_eq!(x_cache(&alone, &admin.access, &known).await, "miss");
    assert_eq!(x_cache(&alone, &admin.access, &known).await, "hit");
    alone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_than_redis_may_have_stays_where_it_was_asked_for() {
    let redis = Redis::start().await;
    let told = |chars: usize| {
        let message = json!({ "role": "assistant", "content": "x".repeat(chars) });
        json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] }).to_string()
    };
    let model = FakeModel::start(Script::Body(told(3_000))).await;
    let (one, two, admin) = two_with(&redis, Settings::development().model(model.setting("m", "small"))).await;
    let body = json!({ "query": "How much?" });
    assert_eq!(x_cache(&one, &admin.access, &body).await, "miss");
    assert_eq!(x_cache(&one, &admin.access, &body).await, "hit", "in its memory");
    assert_eq!(x_cache(&two, &admin.access, &body).await, "miss");
    model.now(Script::Body(told(1_000)));
    let body = json!({ "query": "How little?" });
    assert_eq!(x_cache(&one, &admin.access, &body).await, "miss");
    assert_eq!(x_cache(&two, &admin.access, &body).await, "hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_ask_for_a_password_and_speak_tls() {
    let files = folder();
    let certified = authority::certify(files.path(), "localhost");
    let port = free_address().port().to_string();
    let _redis = Redis::start_with(&[
        "--requirepass",
        "open sesame",
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certified.certificate,
        "--tls-key-file",
        &certified.key,
        "--tls-ca-cert-file",
        &certified.authority,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let password = secret_file(files.path(), "password", "open sesame");
    let place = format!("url: \"rediss://localhost:{port}\", password: {password}, ca: \"{}\"", certified.authority);
    let (one, two, admin) = two_at(&place, Settings::development()).await;
    let body = json!({ "query": "Who listens?" });
    assert_eq!(x_cache(&one, &admin.access, &body).await, "miss");
    assert_eq!(x_cache(&two, &admin.access, &body).await, "hit", "over TLS");
    assert!(!one.said().contains("sesame"), "a secret is in the log:\n{}", one.said());

    // A server that another authority vouches for is not spoken to; everything goes on without it.
    let others = folder();
    let stranger = authority::certify(others.path(), "localhost").authority;
    let place = format!("redis: {{ url: \"rediss://localhost:{port}\", password: {password}, ca: \"{stranger}\" }}");
    let alone = Backend::start(&Settings::development().section(&place)).await;
    until("it has tried", PATIENCE, async || alone.said().contains("Redis cannot be reached").then_some(())).await;
    until_up(&alone, false).await;
    let admin = alone.login(ADMIN).await;
    assert_eq!(x_cache(&alone, &admin.access, &body).await, "miss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_know_where_redis_is() {
    let redis = Redis::start().await;
    let files = folder();
    let file = files.path().join("sentinel.conf");
    let address = redis.address();
    let text = format!("sentinel monitor mymaster {} {} 1\n", address.ip(), address.port());
    std::fs::write(&file, text).expect("a temporary folder can be written");
    let sentinel = Redis::start_sentinel(&file).await;
    let place = format!("sentinel: {{ urls: [\"{}\"], service: mymaster }}", sentinel.url());
    let (one, two, admin) = two_at(&place, Settings::development()).await;
    let body = json!({ "query": "Who knows?" });
    assert_eq!(x_cache(&one, &admin.access, &body).await, "miss");
    assert_eq!(x_cache(&two, &admin.access, &body).await, "hit", "by sentinel");
}
