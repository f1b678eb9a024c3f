//! Cluster: limits that several gateways share by Redis, and what becomes of them when it goes away.
//!
//! Read next: `harness/gateway.rs`, then `common/testkit/src/redis.rs`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::StatusCode;
use testkit::redis::{Redis, free_address};
use testkit::wait::{PATIENCE, until};

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::server::{self, Server};
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};
use crate::harness::upstream::Echo;

/// Requests an hour: within a test none comes back, so that what is admitted can be counted exactly.
const LIMIT: usize = 100;

/// Clients that ask at the same time.
const CLIENTS: usize = 8;

/// Settings of a gateway whose limit `shared` is as `limit` says, on the store that `redis` says.
fn settings(target: SocketAddr, redis: &str, limit: &str) -> String {
    let upstream = upstream(&Pool::of(&[target]));
    // All clients have one address here, and a measurement is a flood.
    let head =
        HEAD.replace("server: {", "server: { flood_guard: { connections_per_second: 0, requests_per_second: 0 },");
    format!(
        "{head}{HTTP}{upstream}stores:\n  redis: {redis}\nlimits:\n  shared: {{ by: client.ip, scope: cluster, {limit} }}\n\
         routes:\n  - {{ id: all, path: /*, auth: none, limits: [shared], to: api }}\n"
    )
}

/// A rate of `LIMIT` an hour, and all of them at once.
fn hourly() -> String {
    format!("rate: {LIMIT}/h")
}

/// Starts so many gateways with the same settings, and waits until each has reached the store.
async fn gateways(count: usize, settings: &str) -> Vec<Gateway> {
    let mut gateways = Vec::with_capacity(count);
    for _ in 0..count {
        gateways.push(Gateway::plain(settings).await);
    }
    for gateway in &gateways {
        store_is(gateway, true).await;
    }
    gateways
}

/// Waits until each of so many gateways has told the store that it lives since all of them did, and was told how many do.
async fn until_they_know_of_each_other(redis: &Redis, count: usize) {
    let time = redis.command(&["EVAL", "local t = redis.call('TIME') return t[1] * 1000000 + t[2]", "0"]);
    let now = time.trim().trim_start_matches(':').to_owned();
    until("each has said again that it lives", PATIENCE, async || {
        let told = redis.command(&["ZCOUNT", "capibara6:gateways", &now, "+inf"]);
        (told.trim() == format!(":{count}")).then_some(())
    })
    .await;
}

/// Waits until a gateway knows that its store is up, or away.
async fn store_is(gateway: &Gateway, up: bool) {
    gateway.until_metrics_say(&format!("gateway_limit_store_up {}", u8::from(up))).await;
}

/// Asks so many times from `CLIENTS` clients at once, going round the gateways; the statuses.
async fn storm(gateways: &[Gateway], requests: usize) -> Vec<u16> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for first in 0..CLIENTS {
        let urls: Vec<String> = gateways.iter().map(|gateway| gateway.url("/x")).collect();
        clients.push(tokio::spawn(async move {
            let client = client::plain();
            let mut statuses = Vec::new();
            for number in 0..requests / CLIENTS {
                let url = &urls[(first + number) % urls.len()];
                statuses.push(client::send(client.get(url)).await.status);
            }
            statuses
        }));
    }
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("no client panics"));
    }
    all
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}

/// Nothing but 200 and 429, and exactly so many of the first.
fn assert_admitted(statuses: &[u16], expected: usize, what: &str) {
    let (admitted, refused) = (count(statuses, 200), count(statuses, 429));
    assert_eq!((admitted, admitted + refused), (expected, statuses.len()), "{what}: {statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_two_or_four_gateways_admit_exactly_the_limit() {
    let echo = Echo::start().await;
    for count in [1, 2, 4] {
        let redis = Redis::start().await;
        let gateways =
            gateways(count, &settings(echo.address(), &format!("{{ url: \"{}\" }}", redis.url()), &hourly())).await;
        let statuses = storm(&gateways, 3 * LIMIT).await;
        assert_admitted(&statuses, LIMIT, &format!("{count} gateways"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_shared_and_outlives_a_gateway() {
    let echo = Echo::start().await;
    let redis = Redis::start().await;
    for quota in ["day", "month"] {
        let redis = format!("{{ url: \"{}\", prefix: {quota} }}", redis.url());
        let settings = settings(echo.address(), &redis, &format!("quota: {LIMIT}/{quota}"));
        let first = gateways(2, &settings).await;
        assert_admitted(
            &storm(&first, LIMIT / 2 / CLIENTS * CLIENTS).await,
            LIMIT / 2 / CLIENTS * CLIENTS,
            "the first half",
        );
        drop(first);
        let second = gateways(1, &settings).await;
        let rest = LIMIT - LIMIT / 2 / CLIENTS * CLIENTS;
        assert_admitted(&storm(&second, 2 * LIMIT).await, rest, "the rest, on another gateway");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_save_questions_and_admit_no_more_than_the_limit() {
    let echo = Echo::start().await;
    let redis = Redis::start().await;
    let place = format!("{{ url: \"{}\" }}", redis.url());
    let gateways = gateways(2, &settings(echo.address(), &place, &format!("{}, batch: 5", hourly()))).await;
    let statuses = storm(&gateways, 3 * LIMIT).await;
    let admitted = count(&statuses, 200);
    // What a gateway took and did not use within a second is lost, never doubled.
    assert!((LIMIT - 2 * 5..=LIMIT).contains(&admitted), "{admitted} of {LIMIT}");
    let mut questions = 0.0;
    for gateway in &gateways {
        questions += metric(gateway, "gateway_limit_store_seconds_count").await;
    }
    assert!(questions < 60.0, "{questions} questions for {LIMIT} requests, five at a time");
}

async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let value = gateway.metric(name).await.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not told"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_dies_costs_nobody_an_answer_and_the_limit_little() {
    let echo = Echo::start().await;
    for gateways_count in [1, 2] {
        let mut redis = Redis::start().await;
        let place = format!("{{ url: \"{}\" }}", redis.url());
        let gateways = gateways(gateways_count, &settings(echo.address(), &place, &hourly())).await;
        until_they_know_of_each_other(&redis, gateways_count).await;
        let before = storm(&gateways, 40).await;
        assert_admitted(&before, 40, "with the store");
        redis.kill();
        let without = storm(&gateways, 160).await;
        let admitted = 40 + count(&without, 200);
        assert_eq!(count(&without, 200) + count(&without, 429), without.len(), "no 5xx: {without:?}");
        assert!(
            (LIMIT * 8 / 10..=LIMIT * 12 / 10).contains(&admitted),
            "{admitted} of {LIMIT} with {gateways_count}"
        );
        for gateway in &gateways {
            store_is(gateway, false).await;
        }
        redis.restart().await;
        for gateway in &gateways {
            store_is(gateway, true).await;
        }
        // It came back empty; what the gateways know of is not forgotten.
        let after = storm(&gateways, 160).await;
        let admitted = admitted + count(&after, 200);
        assert!(admitted <= LIMIT * 12 / 10, "{admitted} of {LIMIT} with {gateways_count} after the store came back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_delays_few_requests_and_none_for_long() {
    let echo = Echo::start().await;
    let redis = Redis::start().await;
    let place = format!("{{ url: \"{}\", timeout: 30ms }}", redis.url());
    let gateways = gateways(1, &settings(echo.address(), &place, "rate: 100000/h")).await;
    assert_admitted(&storm(&gateways, 40).await, 40, "with the store");
    redis.freeze();
    let began = Instant::now();
    let statuses = storm(&gateways, 400).await;
    redis.thaw();
    assert_admitted(&statuses, 400, "without an answer of the store");
    // 400 requests one after the other at 30 ms each would take twelve seconds, and eight at a time 1.5.
    assert!(metric(&gateways[0], "gateway_limit_store_failures_total").await < 20.0, "the breaker opens");
    assert!(began.elapsed() < PATIENCE);
    store_is(&gateways[0], true).await;
    let text = gateways[0].said();
    assert_eq!(text.matches("limit store is away").count(), 1, "one line an outage:\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_may_be_set_to_allow_or_deny_without_its_store() {
    let echo = Echo::start().await;
    let nobody = format!("{{ url: \"redis://{}\" }}", free_address());
    let allow = Gateway::plain(&settings(echo.address(), &nobody, "rate: 1/h, store_down: allow")).await;
    for _ in 0..3 {
        client::send(client::plain().get(allow.url("/x"))).await.expect_status(200);
    }
    let deny = Gateway::plain(&settings(echo.address(), &nobody, "rate: 100/h, store_down: deny")).await;
    let refused = client::send(client::plain().get(deny.url("/x"))).await;
    assert_eq!(refused.expect_problem(503, "limit_store_unavailable")["policy"], "shared");
    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_shown_as_long_as_there_is_one() {
    const SHOWN: &str = "gateway_limit_store_up";
    let (echo, redis) = (Echo::start().await, Redis::start().await);
    let without = format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let with = settings(echo.address(), &format!("{{ url: \"{}\" }}", redis.url()), &hourly());
    let gateway = Gateway::plain(&without).await;
    // An alert on 0 must not go off where nobody has a store, or a feed of withdrawals.
    assert_eq!(gateway.metric(SHOWN).await, None);
    assert_eq!(gateway.metric("gateway_revocation_feed_up").await, None);
    gateway.rewrite(&with);
    gateway.reload().await.expect_status(200);
    store_is(&gateway, true).await;
    gateway.rewrite(&without);
    gateway.reload().await.expect_status(200);
    until("it is shown no longer", PATIENCE, async || gateway.metric(SHOWN).await.is_none().then_some(())).await;
    // Another one in place of one that is away: what is shown is that of the one in use.
    let away = settings(echo.address(), &format!("{{ url: \"redis://{}\" }}", free_address()), &hourly());
    gateway.rewrite(&away);
    gateway.reload().await.expect_status(200);
    store_is(&gateway, false).await;
    gateway.rewrite(&with);
    gateway.reload().await.expect_status(200);
    store_is(&gateway, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_and_tls_are_spoken_where_the_store_asks_for_them() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    authority.issue(folder.path(), "localhost");
    let ca = authority.write_certificate(folder.path());
    let password = folder.path().join("password");
    std::fs::write(&password, "open sesame").expect("a temporary folder can be written");
    let tls_port = free_address().port().to_string();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (file("localhost.crt"), file("localhost.key"));
    let _redis = Redis::start_with(&[
        "--requirepass",
        "open sesame",
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let place = format!(
        "{{ url: \"rediss://localhost:{tls_port}\", password: \"file:{}\", ca: \"{ca}\" }}",
        password.display()
    );
    let gateways = gateways(2, &settings(echo.address(), &place, &hourly())).await;
    assert_admitted(&storm(&gateways, 2 * LIMIT).await, LIMIT, "over TLS");
    assert!(!gateways[0].said().contains("sesame"), "a secret is in no log line");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_the_master() {
    let echo = Echo::start().await;
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sentinel.conf");
    let address = redis.address();
    let text = format!("sentinel monitor mymaster {} {} 1\n", address.ip(), address.port());
    std::fs::write(&file, text).expect("a temporary folder can be written");
    let sentinel = Redis::start_sentinel(&file).await;
    let place = format!("{{ sentinel: {{ urls: [\"{}\"], service: mymaster }} }}", sentinel.url());
    let gateways = gateways(2, &settings(echo.address(), &place, &hourly())).await;
    assert_admitted(&storm(&gateways, 2 * LIMIT).await, LIMIT, "by sentinel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_every_key_finds_its_node() {
    let echo = Echo::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("nodes.conf");
    let file = file.display().to_string();
    let node = Redis::start_with(&["--cluster-enabled", "yes", "--cluster-config-file", &file]).await;
    node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the cluster is whole", PATIENCE, async || {
        node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(())
    })
    .await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let mut text = format!("{HEAD}{HTTP}{upstream}stores:\n  redis: {{ cluster: [\"{}\"] }}\nlimits:\n", node.url());
    for (name, rate) in [("wide", 2 * LIMIT), ("narrow", LIMIT)] {
        let _ = writeln!(text, "  {name}: {{ by: [client.ip, route], scope: cluster, rate: {rate}/h }}");
    }
    text.push_str("routes:\n  - { id: all, path: /*, auth: none, limits: [wide, narrow], to: api }\n");
    let gateways = gateways(2, &text).await;
    assert_admitted(&storm(&gateways, 3 * LIMIT).await, LIMIT, "on a cluster");
}

/// What the store costs a request, and what its death does: `make measure` prints it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a machine that does nothing else"]
async fn measure_a_store_that_dies_under_load() {
    const PHASE: Duration = Duration::from_secs(5);
    let server = Server::start(async |_| server::json(StatusCode::OK, &serde_json::Value::Null)).await;
    let mut redis = Redis::start().await;
    let place = format!("{{ url: \"{}\" }}", redis.url());
    let gateways = gateways(2, &settings(server.address, &place, "rate: 1000000/min")).await;
    for phase in ["with the store", "the store is killed", "the store is back"] {
        match phase {
            "the store is killed" => redis.kill(),
            "the store is back" => redis.restart().await,
            _ => {}
        }
        let over = Instant::now() + PHASE;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let url = gateways[number % gateways.len()].url("/x");
                tokio::spawn(async move {
                    let client = client::plain();
                    let mut times = Vec::new();
                    while Instant::now() < over {
                        let began = Instant::now();
                        let status = client::send(client.get(&url)).await.status;
                        times.push((began.elapsed(), status));
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await.expect("no client panics"));
        }
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 1000].0;
        let failed = times.iter().filter(|(_, status)| *status != 200).count();
        println!(
            "{phase}: {} requests, {failed} failed, p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
            times.len(),
            at(500),
            at(990),
            at(999),
            times[times.len() - 1].0
        );
        assert_eq!(failed, 0, "{phase}");
    }
}
