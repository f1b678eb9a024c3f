//! Access: from which addresses a route may be used. Decided before limits and before anybody is asked for a credential.
//!
//! The whole of 127.0.0.0/8 is this machine, so each address of it can play a client. Read next: `cors.rs`.

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::issuer::{KEYS, scheme};
use crate::harness::settings::{HEAD, HTTP, Pool, upstream};
use crate::harness::upstream::Echo;

const ROUTES: &str = "\
limits:
  few: { by: route, rate: 100/h }
  one: { by: route, rate: 1/h }
routes:
  - { id: open, path: /open, auth: none, limits: [few], to: api }
  - { id: office, path: /office/*, auth: [tokens], require: [], limits: [one], allow_from: [127.0.0.5, 203.0.113.0/24], to: api }
  - { id: fixed, path: /fixed, auth: none, allow_from: [127.0.0.5], respond: { body: here } }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_for_the_addresses_that_it_names() {
    let echo = Echo::start().await;
    let gateway = gateway(&echo).await;
    // Who is let in shows no token, and is told so: the refusal of the next stage shows that this one let it pass.
    let cases: [(u8, Option<&str>, &str, u16, &str); 9] = [
        (1, None, "/office/x", 403, "address_forbidden"),
        (1, Some("203.0.113.7"), "/office/x", 403, "address_forbidden"),
        (9, Some("203.0.114.7"), "/office/x", 403, "address_forbidden"),
        (1, None, "/fixed", 403, "address_forbidden"),
        (66, None, "/open", 403, "address_forbidden"),
        (66, None, "/nowhere", 403, "address_forbidden"),
        (9, Some("198.51.100.7"), "/open", 403, "address_forbidden"),
        // The first that spends the limit of the route, of which there is one an hour.
        (9, Some("203.0.113.7"), "/office/x", 401, "token_missing"),
        (5, None, "/office/x", 429, "rate_limited"),
    ];
    for (last, forwarded, path, status, code) in cases {
        let mut request = client::plain_from(last).get(gateway.url(path));
        if let Some(forwarded) = forwarded {
            request = request.header("X-Forwarded-For", forwarded);
        }
        println!("127.0.0.{last} {forwarded:?} {path}");
        client::send(request).await.expect_problem(status, code);
    }
    assert_eq!(echo.count(), 0, "nothing of it reached the upstream");
    client::send(client::plain().get(gateway.url("/open"))).await.expect_status(200);
    client::send(client::plain_from(5).get(gateway.url("/fixed"))).await.expect_status(200);
    let line = gateway.access_log("the refusal", |line| line["path"] == "/fixed" && line["status"] == 403).await;
    assert_eq!(line["route"], "fixed");
    assert_eq!(line["code"], "address_forbidden");
}

async fn gateway(echo: &Echo) -> Gateway {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokens = scheme("ES256", &KEYS.jwks_file(folder.path()));
    let head = HEAD.replace("[127.0.0.9/32]", "[127.0.0.9/32], deny: [127.0.0.66, 198.51.100.0/24]");
    let upstream = upstream(&Pool::of(&[echo.address()]));
    Gateway::plain(&format!("{head}{HTTP}{upstream}auth:\n  tokens: {tokens}\n{ROUTES}")).await
}
