//! Balance: who gets a request, who is left out, and how much an upstream gets at a time.
//!
//! Read next: `dispatch.rs` for what happens when a request fails on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use testkit::wait::{PATIENCE, until};

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::pki::Authority;
use crate::harness::server::{self, Server};
use crate::harness::settings::{HEAD, HTTP, OPEN, targets};
use crate::harness::upstream::{Echo, Fault, Faulty};

async fn gateway(upstream: &str) -> Gateway {
    Gateway::plain(&format!("{HEAD}{HTTP}upstreams:\n  api: {{ {upstream} }}\n{OPEN}")).await
}

/// A server that answers after a while, with a status that can be changed, and counts.
struct Slow {
    server: Server,
    asked: Arc<AtomicUsize>,
    status: Arc<AtomicU16>,
}

impl Slow {
    async fn start(delay: Duration) -> Self {
        let (asked, status) = (Arc::<AtomicUsize>::default(), Arc::new(AtomicU16::new(200)));
        let (count, answer) = (Arc::clone(&asked), Arc::clone(&status));
        let server = Server::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let status = StatusCode::from_u16(answer.load(Ordering::SeqCst)).expect("a status");
            async move {
                tokio::time::sleep(delay).await;
                server::json(status, &json!({}))
            }
        })
        .await;
        Self { server, asked, status }
    }

    fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Sends so many requests from so many clients at once, and fails unless all are answered 200.
async fn load(gateway: &Gateway, clients: usize, requests: usize) {
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let url = gateway.url("/x");
            tokio::spawn(async move {
                let client = client::plain();
                for _ in 0..requests {
                    client::send(client.get(&url)).await.expect_status(200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no client panics");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_a_hundred_times_as_slow_gets_next_to_nothing() {
    for (balance, most) in [("peak_ewma", 24), ("least_requests", 80)] {
        let quick = [Slow::start(Duration::from_millis(3)).await, Slow::start(Duration::from_millis(3)).await];
        let slow = Slow::start(Duration::from_millis(300)).await;
        let all = targets(&[quick[0].server.address, quick[1].server.address, slow.server.address]);
        let gateway = gateway(&format!("{all}, balance: {balance}")).await;
        load(&gateway, 8, 100).await;
        let asked = slow.count();
        assert!(asked <= most, "{balance}: the slow one got {asked} of 800");
        assert!(quick.iter().all(|quick| quick.count() > 200), "{balance}: the others share the rest");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_or_a_cookie_leads_to_the_same_server() {
    let echoes = [Echo::start().await, Echo::start().await, Echo::start().await];
    let all = targets(&echoes.each_ref().map(Echo::address));
    for by in ["header.X-Cart", "cookie.cart", "client.ip"] {
        let hashed = gateway(&format!("{all}, balance: hash, hash_by: {by}")).await;
        let start = echoes.each_ref().map(Echo::count);
        for cart in 0..24_u8 {
            let before = echoes.each_ref().map(Echo::count);
            for _ in 0..3 {
                let ask = match by {
                    "client.ip" => client::plain_from(20 + cart).get(hashed.url("/x")),
                    "cookie.cart" => {
                        client::plain().get(hashed.url("/x")).header("Cookie", format!("theme=dark; cart={cart}"))
                    }
                    _ => client::plain().get(hashed.url("/x")).header("X-Cart", cart.to_string()),
                };
                client::send(ask).await.expect_status(200);
            }
            let gained: Vec<_> = echoes.iter().zip(before).map(|(echo, before)| echo.count() - before).collect();
            assert!(gained.contains(&3), "{by}: cart {cart} went to {gained:?}");
        }
        assert!(echoes.iter().zip(start).all(|(echo, start)| echo.count() > start), "{by}: and not all carts to one");
    }

    let sticky = gateway(&format!("{all}, sticky: {{ cookie: server, max_age: 1h }}")).await;
    let first = client::send(client::plain().get(sticky.url("/x"))).await;
    let cookie = first.header("set-cookie").to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    let before = echoes.each_ref().map(Echo::count);
    for _ in 0..6 {
        let again = client::send(client::plain().get(sticky.url("/x")).header("Cookie", &cookie)).await;
        assert_eq!(again.header("set-cookie"), "", "it knows already");
    }
    assert!(echoes.iter().zip(before).any(|(echo, before)| echo.count() - before == 6));
    let forged = client::send(client::plain().get(sticky.url("/x")).header("Cookie", "server=nonsense")).await;
    assert!(forged.header("set-cookie").starts_with("server="), "what leads nowhere is replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_requests_is_left_out_and_tried_by_one() {
    let echo = Echo::start().await;
    let failing = Slow::start(Duration::ZERO).await;
    failing.status.store(503, Ordering::SeqCst);
    let all = targets(&[echo.address(), failing.server.address]);
    let gateway = gateway(&format!("{all}, eject: {{ after: 3, for: 1s }}")).await;
    let ask = async || client::send(client::plain().get(gateway.url("/x"))).await.status;
    until("it is left out", PATIENCE, async || {
        ask().await;
        (metric(&gateway, "gateway_upstream_ejected", &failing).await == "1").then_some(())
    })
    .await;
    let before = failing.count();
    let mut failed = 0;
    for _ in 0..50 {
        failed += usize::from(ask().await != 200);
    }
    assert!(failed <= 2 && failing.count() - before <= 2, "at most a try or two: {failed}");
    failing.status.store(200, Ordering::SeqCst);
    until("it is well again", PATIENCE, async || {
        ask().await;
        (metric(&gateway, "gateway_upstream_ejected", &failing).await == "0").then_some(())
    })
    .await;
}

async fn metric(gateway: &Gateway, name: &str, of: &Slow) -> String {
    let name = format!("{name}{{endpoint=\"{}\",upstream=\"api\"}}", of.server.address);
    gateway.metric(&name).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_gets_no_more_than_its_breaker_lets_through() {
    let slow = Slow::start(Duration::from_millis(700)).await;
    let all = targets(&[slow.server.address]);
    let gateway =
        gateway(&format!("{all}, breaker: {{ max_requests: 2, max_pending: 1, pending_timeout: 5s }}")).await;
    let ask = || {
        let url = gateway.url("/x");
        tokio::spawn(async move { client::send(client::plain().get(url)).await })
    };
    let under_way = [ask(), ask()];
    until("two are under way", PATIENCE, async || (slow.count() == 2).then_some(())).await;
    let others: Vec<_> = (0..4).map(|_| ask()).collect();
    let mut statuses = Vec::new();
    for other in others {
        let answer = other.await.expect("no client panics");
        if answer.status != 200 {
            answer.expect_problem(503, "upstream_overloaded");
        }
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503], "one may wait");
    for request in under_way {
        request.await.expect("no client panics").expect_status(200);
    }
    ask().await.expect("no client panics").expect_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_fail_they_get_no_more_than_a_fifth_on_top() {
    const REQUESTS: usize = 2000;
    let faulty = [Faulty::start(Fault::HangUp).await, Faulty::start(Fault::HangUp).await];
    let gateway = gateway(&format!(
        "{}, retry: {{ attempts: 3, backoff: 1ms }}",
        targets(&faulty.each_ref().map(|f| f.address))
    ))
    .await;
    let client = client::plain();
    for _ in 0..REQUESTS {
        client::send(client.get(gateway.url("/x"))).await.expect_problem(502, "upstream_failed");
    }
    let asked: usize = faulty.iter().map(Faulty::count).sum();
    // A fifth, and the small reserve that a pool begins with.
    assert!(asked <= REQUESTS * 12 / 10 + 64, "{asked} attempts at {REQUESTS} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_repeated_is_said_by_its_method_or_by_its_key() {
    let faulty = Faulty::start(Fault::Silence).await;
    let echo = Echo::start().await;
    let all = targets(&[faulty.address, echo.address()]);
    let gateway = gateway(&format!("{all}, retry: {{ attempts: 2, per_try: 300ms, backoff: 1ms }}")).await;
    let post = || client::plain().post(gateway.url("/x")).body("once");
    let mut failed = 0;
    for _ in 0..4 {
        client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
        client::send(post().header("Idempotency-Key", "k-1")).await.expect_status(200);
        failed += usize::from(client::send(post()).await.status == 504);
    }
    assert!(failed >= 1, "a POST that may have been read is not sent again");
    assert_eq!(echo.last().body, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_enough_for_some_checks() {
    let echo = Echo::start().await;
    let address = echo.address();
    let other = Echo::start().await;
    let all = targets(&[address, other.address()]);
    let gateway = gateway(&format!("{all}, health: {{ tcp: true, every: 100ms, down_after: 2 }}")).await;
    let health = format!("gateway_upstream_healthy{{endpoint=\"{address}\",upstream=\"api\"}}");
    assert_eq!(gateway.metric(&health).await.as_deref(), Some("1"));
    echo.stop().await;
    gateway.until_metrics_say(&format!("{health} 0")).await;
    load(&gateway, 2, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_shows_its_own_certificate_where_servers_ask_for_one() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new();
    let own = authority.issue(folder.path(), "edge.test");
    let acceptor = authority.demanding_acceptor("api.test");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a listening socket accepts");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 4096];
                if stream.read(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                    // The gateway reads it or has a reason not to, which the test sees.
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    let ca = authority.write_certificate(folder.path());
    let tls =
        |certificate: &str| format!("{}, tls: {{ name: api.test, ca: \"{ca}\"{certificate} }}", targets(&[address]));
    let known = gateway(&tls(&format!(", certificate: {own}"))).await;
    client::send(client::plain().get(known.url("/x"))).await.expect_status(200);
    let unknown = gateway(&tls("")).await;
    let refused = client::send(client::plain().get(unknown.url("/x"))).await.status;
    assert!(matches!(refused, 502 | 503), "{refused}");
}
