//! Budget: how much is left? Limits are exact, and what `Retry-After` says is true.
//!
//! Read next: `dispatch.rs`.

use std::time::{Duration, Instant};

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, KeySource, key_scheme, scheme, token_of};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

/// Requests a minute, all of which may come at once.
const LIMIT: usize = 100;

/// Time after which one more is allowed: a minute in `LIMIT` parts.
const REFILL_EVERY: Duration = Duration::from_millis(600);

/// More requests than this a test does not send, however slow the machine: two minutes' worth.
const REQUESTS_MAX: usize = 3 * LIMIT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_a_minute_is_a_hundred_and_the_wait_is_true() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!(
        "{HEAD}{HTTP}{upstream}limits:\n  per_ip: {{ by: client.ip, rate: {LIMIT}/min }}\n\
         routes:\n  - {{ id: all, path: /*, auth: none, limits: [per_ip], to: api }}\n"
    );
    let gateway = Gateway::plain(&settings).await;
    let client = client::plain();
    // When each request was sent and answered. The gateway decided somewhere in between.
    let mut moments: Vec<(Instant, Instant)> = Vec::with_capacity(LIMIT);
    let refused = loop {
        assert!(moments.len() < REQUESTS_MAX, "{REQUESTS_MAX} requests and no limit");
        let sent = Instant::now();
        let answer = client::send(client.get(gateway.url("/x"))).await;
        moments.push((sent, Instant::now()));
        if answer.status != 200 {
            break answer;
        }
    };
    // Number k is allowed exactly if k ≤ LIMIT + ⌊(its moment − the first one's) / REFILL_EVERY⌋.
    let refilled = |from: Instant, to: Instant| {
        usize::try_from(to.saturating_duration_since(from).as_millis() / REFILL_EVERY.as_millis())
            .expect("a small number")
    };
    let admitted = moments.len() - 1;
    let (first_sent, first_answered) = moments[0];
    let at_least = LIMIT + refilled(first_answered, moments[admitted].0);
    let at_most = LIMIT + refilled(first_sent, moments[admitted - 1].1);
    assert!((at_least..=at_most).contains(&admitted), "{admitted} admitted, expected {at_least} to {at_most}");
    assert_eq!(echo.count(), admitted, "what is refused opens no upstream request");

    let problem = refused.expect_problem(429, "rate_limited");
    assert_eq!(problem["route"], "all");
    assert_eq!(problem["policy"], "per_ip");
    let retry_after: u64 = refused.header("retry-after").parse().expect("whole seconds");
    assert_eq!(retry_after, 1, "the next one is due within {REFILL_EVERY:?}, rounded up to seconds");

    // Meanwhile another address has its own hundred.
    client::send(client::plain_from(2).get(gateway.url("/x"))).await.expect_status(200);
    // The one wait of a fixed time in these tests: the time that the gateway itself named.
    tokio::time::sleep(Duration::from_secs(retry_after)).await;
    client::send(client.get(gateway.url("/x"))).await.expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_by_subject_counts_users_wherever_they_come_from() {
    let echo = Echo::start().await;
    let gateway = identity_gateway(&echo, "identity.subject", None).await;
    let ask = async |subject: &str, from: u8| {
        let token = token_of(subject, "read").signed_by(&KEYS.es256);
        client::send(client::plain_from(from).get(gateway.url("/x")).bearer_auth(token)).await
    };
    for from in 1..=5 {
        ask("alice", from).await.expect_status(200);
    }
    let refused = ask("alice", 6).await;
    assert_eq!(refused.expect_problem(429, "rate_limited")["policy"], "per_user");
    // One in twelve seconds: five a minute.
    let retry_after: u64 = refused.header("retry-after").parse().expect("whole seconds");
    assert!((1..=12).contains(&retry_after), "Retry-After: {retry_after}");
    ask("bob", 1).await.expect_status(200);
    assert_eq!(echo.count(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_by_key_counts_each_key_apart_from_its_owner() {
    let (echo, source) = (Echo::start().await, KeySource::start().await);
    let keys = key_scheme(&[source.address()]);
    let gateway = identity_gateway(&echo, "identity.key_or_subject", Some(&keys)).await;
    let [first, second] = [source.issue("alice", "read"), source.issue("alice", "read")];
    let get = || client::plain().get(gateway.url("/x"));
    for _ in 0..5 {
        client::send(get().header("X-API-Key", first.reveal())).await.expect_status(200);
    }
    client::send(get().header("X-API-Key", first.reveal())).await.expect_problem(429, "rate_limited");
    client::send(get().header("X-API-Key", second.reveal())).await.expect_status(200);
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    client::send(get().bearer_auth(token)).await.expect_status(200);
}

/// A gateway that gives five requests a minute to whatever `by` names.
async fn identity_gateway(echo: &Echo, by: &str, keys: Option<&str>) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let (keys, schemes) = match keys {
        Some(keys) => (format!("  keys: {keys}\n"), "[tokens, keys]"),
        None => (String::new(), "[tokens]"),
    };
    let settings = format!(
        "{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\n{keys}limits:\n  per_user: {{ by: {by}, rate: 5/min }}\n\
         routes:\n  - {{ id: all, path: /*, auth: {schemes}, require: [], limits: [per_user], to: api }}\n"
    );
    Gateway::plain(&settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_the_headers_is_never_refused() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!(
        "{HEAD}{HTTP}{upstream}limits:\n  few: {{ by: client.ip, rate: 5/s, burst: 3 }}\n  \
         many: {{ by: client.ip, rate: 1000/min }}\nroutes:\n  \
         - {{ id: all, path: /*, auth: none, limits: [few, many], to: api }}\n  \
         - {{ id: free, path: /free, auth: none, to: api }}\n"
    );
    let gateway = Gateway::plain(&settings).await;
    let client = client::plain();
    for _ in 0..12 {
        let answer = client::send(client.get(gateway.url("/x"))).await;
        answer.expect_status(200);
        assert_eq!(answer.header("ratelimit-policy"), "\"few\";q=5;w=1, \"many\";q=1000;w=60");
        let (left, wait_seconds) = told(answer.header("ratelimit"), "few");
        if left == 0 {
            // Why a sleep: this is the client that does as it is told, and the promise is that it is enough.
            tokio::time::sleep(Duration::from_secs(wait_seconds)).await;
        }
    }
    let refused = loop {
        let answer = client::send(client.get(gateway.url("/x"))).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(echo.count() < REQUESTS_MAX, "{REQUESTS_MAX} requests and no limit");
    };
    refused.expect_problem(429, "rate_limited");
    assert_eq!(told(refused.header("ratelimit"), "few"), (0, 1), "the refusal tells it too");
    let free = client::send(client.get(gateway.url("/free"))).await;
    assert_eq!((free.header("ratelimit"), free.header("ratelimit-policy")), ("", ""), "no limits, nothing to tell");
}

/// What a `RateLimit` field says of one limit: units left, and seconds to wait.
fn told(field: &str, limit: &str) -> (u64, u64) {
    let item = field.split(", ").find_map(|item| item.strip_prefix(&format!("\"{limit}\";r=")));
    let parts = item.and_then(|item| item.split_once(";t=")).unwrap_or_else(|| panic!("{limit} is not in {field:?}"));
    (parts.0.parse().expect("a number"), parts.1.parse().expect("a number"))
}
