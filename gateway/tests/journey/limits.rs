//! Limits: rates, quotas and places, by whatever a request can be counted by; all of a request's limits, or none.
//!
//! Read next: `cluster.rs` for limits that several gateways share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::json;
use testkit::wait::{PATIENCE, until};

use crate::harness::client::{self, Answer};
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme, token_of};
use crate::harness::server::{self, Server};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

/// A gateway before an echo, with these limits and routes.
async fn limited(echo: &Echo, limits: &str, routes: &str) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let settings = format!("{HEAD}{HTTP}{upstream}auth:\n  tokens: {tokens}\nlimits:\n{limits}routes:\n{routes}");
    Gateway::plain(&settings).await
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    client::send(client::plain().get(gateway.url(path))).await
}

/// What a `RateLimit` field says is left of one limit. Read by a parser of structured fields, so that every field that these
/// tests see is shown to be one.
fn left(answer: &Answer, limit: &str) -> Option<i64> {
    let field = answer.header("ratelimit");
    let list: sfv::List = sfv::Parser::new(field).parse().unwrap_or_else(|error| panic!("{field:?}: {error}"));
    let policy = answer.header("ratelimit-policy");
    let _: sfv::List = sfv::Parser::new(policy).parse().unwrap_or_else(|error| panic!("{policy:?}: {error}"));
    list.iter().find_map(|entry| {
        let sfv::ListEntry::Item(item) = entry else { panic!("{field:?} holds an inner list") };
        let named = item.bare_item.as_string().is_some_and(|name| name.as_str() == limit);
        let left = item.params.get("r").and_then(sfv::BareItem::as_integer);
        if named { left.map(i64::from) } else { None }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_spends_all_its_limits_or_none() {
    let echo = Echo::start().await;
    let limits = "  wide: { by: client.ip, rate: 10/h }\n  narrow: { by: route, rate: 2/h }\n  who: { by: identity.subject, rate: 3/h }\n";
    let routes = "  - { id: a, path: /a, auth: none, limits: [wide, narrow], to: api }\n  \
                  - { id: b, path: /b, auth: [tokens], require: [], limits: [wide, who], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    for expected in [9, 8] {
        let answer = get(&gateway, "/a").await;
        answer.expect_status(200);
        assert_eq!(left(&answer, "wide"), Some(expected));
    }
    for _ in 0..5 {
        let refused = get(&gateway, "/a").await;
        let problem = refused.expect_problem(429, "rate_limited");
        assert_eq!(problem["violated-policies"], json!(["narrow"]), "{problem}");
        assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!((left(&refused, "narrow"), left(&refused, "wide")), (Some(0), None), "only what refused is told");
    }
    let token = token_of("alice", "read").signed_by(&KEYS.es256);
    let ask = async || client::send(client::plain().get(gateway.url("/b")).bearer_auth(&token)).await;
    // Five refusals by `narrow` cost `wide` nothing.
    for expected in [7, 6, 5] {
        assert_eq!(left(&ask().await, "wide"), Some(expected));
    }
    assert_eq!(ask().await.expect_problem(429, "rate_limited")["policy"], "who");
    let answer = client::send(
        client::plain().get(gateway.url("/b")).bearer_auth(token_of("bob", "read").signed_by(&KEYS.es256)),
    );
    assert_eq!(left(&answer.await, "wide"), Some(4), "nor did the refusal by `who`");
    assert_eq!(echo.count(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trying_credentials_costs_as_much_as_using_them() {
    let echo = Echo::start().await;
    let limits = "  ip: { by: client.ip, rate: 5/h }\n";
    let routes = "  - { id: b, path: /b, auth: [tokens], require: [], limits: [ip], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    for _ in 0..5 {
        client::send(client::plain().get(gateway.url("/b")).bearer_auth("guess"))
            .await
            .expect_problem(401, "token_malformed");
    }
    let good = token_of("alice", "read").signed_by(&KEYS.es256);
    let ask = client::plain().get(gateway.url("/b")).bearer_auth(good);
    client::send(ask).await.expect_problem(429, "rate_limited");
    assert_eq!(echo.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_what_the_limit_says() {
    let echo = Echo::start().await;
    let limits = "  tenant: { by: [client.ip, header.X-Tenant], rate: 1/h }\n  path: { by: route, rate: 1/h }\n";
    let routes = "  - { id: t, path: /t, auth: none, limits: [tenant], to: api }\n  \
                  - { id: p, path: /p, auth: none, limits: [path], to: api }\n  \
                  - { id: q, path: /q, auth: none, limits: [path], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    let from = async |last: u8, path: &str, tenant: Option<&str>| {
        let request = client::plain_from(last).get(gateway.url(path));
        client::send(tenant.into_iter().fold(request, |request, tenant| request.header("X-Tenant", tenant)))
            .await
            .status
    };
    assert_eq!(from(1, "/t", Some("a")).await, 200);
    assert_eq!(from(1, "/t", Some("a")).await, 429, "the same address and tenant");
    assert_eq!(from(1, "/t", Some("b")).await, 200, "another tenant");
    assert_eq!(from(2, "/t", Some("a")).await, 200, "another address");
    assert_eq!((from(1, "/t", None).await, from(1, "/t", None).await), (200, 429), "none counts as one");
    assert_eq!((from(1, "/p", None).await, from(2, "/p", None).await), (200, 429), "everybody together");
    assert_eq!(from(1, "/q", None).await, 200, "another route");
}

/// An upstream whose answers say what they cost.
async fn priced(price: &Arc<AtomicU64>) -> Server {
    let price = Arc::clone(price);
    Server::start(move |_| {
        let price = price.load(Ordering::SeqCst);
        async move {
            let mut reply = server::json(StatusCode::OK, &json!({}));
            reply.headers_mut().insert("x-tokens-used", HeaderValue::from(price));
            reply
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_has_cost_is_settled_after_it() {
    let price = Arc::new(AtomicU64::new(40));
    let upstream_server = priced(&price).await;
    let settings = format!(
        "{HEAD}{HTTP}{}limits:\n  tokens: {{ by: client.ip, rate: 100/h, cost: 10, cost_from: X-Tokens-Used }}\n\
         routes:\n  - {{ id: all, path: /*, auth: none, limits: [tokens], to: api }}\n",
        upstream(&Pool::of(&[upstream_server.address]))
    );
    let gateway = Gateway::plain(&settings).await;
    // Told before the answer is settled: nine more requests at the price that was reserved.
    let first = get(&gateway, "/x").await;
    assert_eq!((left(&first, "tokens"), first.header("ratelimit-policy")), (Some(9), "\"tokens\";q=10;w=3600"));
    // 100 − 40 − 10.
    assert_eq!(left(&get(&gateway, "/x").await, "tokens"), Some(5));
    price.store(0, Ordering::SeqCst);
    // 100 − 80 − 10, and then the 10 come back.
    assert_eq!(left(&get(&gateway, "/x").await, "tokens"), Some(1));
    price.store(500, Ordering::SeqCst);
    assert_eq!(left(&get(&gateway, "/x").await, "tokens"), Some(1));
    get(&gateway, "/x").await.expect_problem(429, "rate_limited");
    assert_eq!(
        client::send(client::plain_from(3).get(gateway.url("/x"))).await.status,
        200,
        "another's budget is untouched"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_ends_with_the_day_and_the_month() {
    let echo = Echo::start().await;
    let limits = "  day: { by: client.ip, quota: 2/day }\n  month: { by: client.ip, quota: 1000/month }\n";
    let routes = "  - { id: all, path: /*, auth: none, limits: [day, month], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    let answer = get(&gateway, "/x").await;
    assert_eq!(answer.header("ratelimit-policy"), "\"day\";q=2;w=86400, \"month\";q=1000;w=2592000");
    assert_eq!((left(&answer, "day"), left(&answer, "month")), (Some(1), Some(999)));
    get(&gateway, "/x").await.expect_status(200);
    let refused = get(&gateway, "/x").await;
    refused.expect_problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().expect("whole seconds");
    assert!((1..=86_400).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_held_until_the_answer_is_over() {
    let echo = Echo::start().await;
    let limits = "  few: { by: client.ip, concurrent: 2 }\n";
    let routes = "  - { id: all, path: /*, auth: none, limits: [few], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    let slow = |gateway: &Gateway| {
        let url = gateway.url("/slow?delay_ms=3000");
        tokio::spawn(async move { client::send(client::plain().get(url)).await.status })
    };
    let held = [slow(&gateway), slow(&gateway)];
    until("two requests are under way", PATIENCE, async || (echo.count() == 2).then_some(())).await;
    let refused = get(&gateway, "/x").await;
    refused.expect_problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), "\"few\";q=2;qu=\"concurrent-requests\"");
    assert_eq!(left(&refused, "few"), Some(0));
    client::send(client::plain_from(2).get(gateway.url("/x"))).await.expect_status(200);
    for request in held {
        assert_eq!(request.await.expect("the request ends"), 200);
    }
    until("a place is free again", PATIENCE, async || (get(&gateway, "/x").await.status == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_is_given_back_by_a_client_that_leaves() {
    let echo = Echo::start().await;
    let limits = "  one: { by: client.ip, concurrent: 1 }\n";
    let routes = "  - { id: all, path: /*, auth: none, limits: [one], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    let url = gateway.url("/slow?delay_ms=5000");
    let leaving = tokio::spawn(async move { client::try_send(client::plain().get(url)).await.is_ok() });
    until("the request is under way", PATIENCE, async || (echo.count() == 1).then_some(())).await;
    leaving.abort();
    until("the place is free", Duration::from_secs(4), async || {
        (get(&gateway, "/x").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_headers_are_told_where_wanted() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let head = HEAD.replace("server: {", "server: { limit_headers: [legacy],");
    let settings = format!(
        "{head}{HTTP}{upstream}limits:\n  few: {{ by: client.ip, rate: 2/h }}\n  many: {{ by: client.ip, rate: 50/h }}\n\
         routes:\n  - {{ id: all, path: /*, auth: none, limits: [few, many], to: api }}\n"
    );
    let gateway = Gateway::plain(&settings).await;
    for (status, remaining) in [(200, "1"), (200, "0"), (429, "0")] {
        let answer = get(&gateway, "/x").await;
        answer.expect_status(status);
        assert_eq!((answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining")), ("2", remaining));
        let reset: u64 = answer.header("x-ratelimit-reset").parse().expect("whole seconds");
        assert!((1..=3600).contains(&reset), "{reset}");
        assert_eq!((answer.header("ratelimit"), answer.header("ratelimit-policy")), ("", ""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_in_shadow_is_counted_and_refuses_nobody() {
    let echo = Echo::start().await;
    let limits = "  tried: { by: client.ip, rate: 1/h, shadow: true }\n";
    let routes = "  - { id: all, path: /*, auth: none, limits: [tried], to: api }\n";
    let gateway = limited(&echo, limits, routes).await;
    for _ in 0..3 {
        let answer = get(&gateway, "/x").await;
        answer.expect_status(200);
        assert_eq!(answer.header("ratelimit"), "", "what is only watched is not told");
    }
    let line = gateway.access_log("a shadowed refusal", |line| line["shadow"][0] == "tried:rate_limited").await;
    assert_eq!(line["status"], 200);
    let shadowed = gateway.metric("gateway_shadow_refusals_total{code=\"rate_limited\",route=\"all\"}").await;
    assert_eq!(shadowed.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_one_address_is_stopped_before_anything_is_looked_up() {
    let echo = Echo::start().await;
    let upstream = upstream(&Pool::of(&[echo.address()]));
    let head = HEAD.replace("server: {", "server: { flood_guard: { requests_per_second: 20 },");
    let settings = format!("{head}{HTTP}{upstream}routes:\n  - {{ id: all, path: /*, auth: none, to: api }}\n");
    let gateway = Gateway::plain(&settings).await;
    let mut refused = None;
    // A second's count is forgotten in the next; on a slow machine it may take a few.
    for _ in 0..2000 {
        let answer = get(&gateway, "/x").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("2,000 requests one after the other are more than 20 in some second");
    assert_eq!(refused.expect_problem(429, "rate_limited")["policy"], "flood_guard");
    let untouched = client::send(client::plain_from(9).get(gateway.url("/x"))).await;
    untouched.expect_status(200);
}
