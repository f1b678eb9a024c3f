//! Discovery: where the servers are, by name, by file and by socket, and what stays when nobody can say.
//!
//! Read next: `balance.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use testkit::wait::{PATIENCE, until};

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::names::{Answer, Names};
use crate::harness::settings::{HEAD, HTTP, OPEN};
use crate::harness::upstream::Echo;

async fn gateway(upstream: &str) -> Gateway {
    Gateway::plain(&format!("{HEAD}{HTTP}upstreams:\n  api: {{ {upstream} }}\n{OPEN}")).await
}

/// Asks until an answer has come from each of these and no other.
async fn served_by(gateway: &Gateway, what: &str, echoes: &[&Echo]) {
    until(what, PATIENCE, async || {
        let before: Vec<_> = echoes.iter().map(|echo| echo.count()).collect();
        for _ in 0..8 * echoes.len() {
            if client::send(client::plain().get(gateway.url("/x"))).await.status != 200 {
                return None;
            }
        }
        let gained: usize = echoes.iter().zip(&before).map(|(echo, before)| echo.count() - before).sum();
        let each = echoes.iter().zip(&before).all(|(echo, before)| echo.count() > *before);
        (each && gained == 8 * echoes.len()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_a_name_come_and_go_and_the_last_are_kept() {
    let names = Names::start().await;
    let echoes = Echo::start_row(21, 3).await;
    let port = echoes[0].address().port();
    let address = |index: u8| Answer::A([127, 0, 0, 21 + index].into());
    names.set("api.test", &[address(0), address(1)]);
    let upstream =
        format!("discovery: {{ dns: \"api.test:{port}\", servers: [\"{}\"], every: 100ms }}", names.address);
    let gateway = gateway(&upstream).await;
    served_by(&gateway, "both addresses", &[&echoes[0], &echoes[1]]).await;
    names.set("api.test", &[address(1), address(2)]);
    served_by(&gateway, "the other two", &[&echoes[1], &echoes[2]]).await;
    names.set("api.test", &[]);
    until("the loss is told", PATIENCE, async || gateway.said().contains("servers cannot be found").then_some(()))
        .await;
    served_by(&gateway, "the last that were known", &[&echoes[1], &echoes[2]]).await;
    names.stop();
    gateway.reload().await.expect_status(200);
    served_by(&gateway, "the same after a reload without a name server", &[&echoes[1], &echoes[2]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_may_have_addresses_of_both_families() {
    let (names, echo) = (Names::start().await, Echo::start().await);
    let port = echo.address().port();
    let (four, six) = (Answer::A(Ipv4Addr::LOCALHOST), Answer::Aaaa(Ipv6Addr::LOCALHOST));
    names.set("api.test", &[four.clone(), six]);
    let discovery =
        format!("discovery: {{ dns: \"api.test:{port}\", servers: [\"{}\"], every: 100ms }}", names.address);
    let gateway = gateway(&discovery).await;
    // Whether this machine has the other family matters to nobody: that the server is known shows in its gauge.
    let shown = |address: &str| format!("gateway_upstream_healthy{{endpoint=\"{address}:{port}\",upstream=\"api\"}}");
    for address in ["127.0.0.1", "[::1]"] {
        gateway.until_metrics_say(&format!("{} 1", shown(address))).await;
    }
    names.set("api.test", &[four]);
    until("the other one is gone", PATIENCE, async || gateway.metric(&shown("[::1]")).await.is_none().then_some(()))
        .await;
    served_by(&gateway, "the one that is left", &[&echo]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_name_their_ports_and_shares() {
    let names = Names::start().await;
    let (one, two, spare) = (Echo::start().await, Echo::start().await, Echo::start().await);
    let service = |priority, weight, echo: &Echo| Answer::Srv(priority, weight, echo.address().port(), "host.test");
    names.set("host.test", &[Answer::A([127, 0, 0, 1].into())]);
    // One is announced whose host nobody knows any more: it keeps no other from being found.
    let gone = Answer::Srv(1, 20, 9, "gone.test");
    names.set("_http._tcp.api.test", &[gone, service(1, 30, &one), service(1, 10, &two), service(2, 10, &spare)]);
    let upstream =
        format!("discovery: {{ dns: \"srv:_http._tcp.api.test\", servers: [\"{}\"], every: 100ms }}", names.address);
    let gateway = gateway(&upstream).await;
    served_by(&gateway, "both services", &[&one, &two]).await;
    let before = (one.count(), two.count());
    for _ in 0..40 {
        client::send(client::plain().get(gateway.url("/x"))).await.expect_status(200);
    }
    assert_eq!((one.count() - before.0, two.count() - before.1), (30, 10));
    assert_eq!(spare.count(), 0, "a later priority is for when the first is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_servers_is_followed_and_a_broken_one_changes_nothing() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("targets.yaml");
    let write = |text: &str| std::fs::write(&file, text).expect("a temporary folder can be written");
    write(&format!("targets: [\"{}\"]\n", one.address()));
    let gateway = gateway(&format!("discovery: {{ file: \"{}\", every: 100ms }}", file.display())).await;
    served_by(&gateway, "the first", &[&one]).await;
    write(&format!("targets: [\"{}\", {{ at: \"{}\", weight: 2 }}]\n", one.address(), two.address()));
    served_by(&gateway, "both", &[&one, &two]).await;
    write("targets: [nonsense]\n");
    until("the mistake is told", PATIENCE, async || gateway.said().contains("targets.yaml:1:").then_some(())).await;
    served_by(&gateway, "still both", &[&one, &two]).await;
    write(&format!("targets: [\"{}\"]\n", two.address()));
    served_by(&gateway, "the second", &[&two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_listen_on_a_socket_in_the_file_system() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket in a temporary folder");
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a listening socket accepts");
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix";
                // The check may have left; it needs no more than the connection.
                let _ = stream.write_all(answer).await;
            });
        }
    });
    let gateway =
        gateway(&format!("targets: [\"unix:{}\"], health: {{ http: /health, every: 100ms }}", path.display())).await;
    for _ in 0..3 {
        let answer = client::send(client::plain().get(gateway.url("/x"))).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"unix"[..]));
    }
    server.abort();
    std::fs::remove_file(&path).expect("the socket was there");
    until("it is found to be gone", Duration::from_secs(10), async || {
        (client::send(client::plain().get(gateway.url("/x"))).await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_nobody_can_find_are_our_503_and_are_found_later() {
    let names = Names::start().await;
    let echoes = Echo::start_row(21, 1).await;
    let upstream = format!(
        "discovery: {{ dns: \"late.test:{}\", servers: [\"{}\"], every: 1h }}",
        echoes[0].address().port(),
        names.address
    );
    let gateway = gateway(&upstream).await;
    client::send(client::plain().get(gateway.url("/x"))).await.expect_problem(503, "upstream_unavailable");
    names.set("late.test", &[Answer::A([127, 0, 0, 21].into())]);
    served_by(&gateway, "the server, as soon as it has a name", &[&echoes[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_new_gets_its_share_little_by_little() {
    const BATCH: usize = 200;
    let (old, new) = (Echo::start().await, Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("servers.yaml");
    let write = |echoes: &[&Echo]| {
        let targets: Vec<String> = echoes.iter().map(|echo| format!("\"{}\"", echo.address())).collect();
        std::fs::write(&file, format!("targets: [{}]\n", targets.join(", "))).expect("writable");
    };
    write(&[&old]);
    let upstream = format!("discovery: {{ file: \"{}\", every: 50ms }}, slow_start: 5s", file.display());
    let gateway = gateway(&upstream).await;
    served_by(&gateway, "the old one", &[&old]).await;
    write(&[&old, &new]);
    let client = client::plain();
    let ask = async || client::send(client.get(gateway.url("/x"))).await.expect_status(200).status;
    until("the new one is known", PATIENCE, async || (ask().await == 200 && new.count() > 0).then_some(())).await;
    let mut shares = Vec::new();
    until("the new one has its share", PATIENCE, async || {
        let before = new.count();
        for _ in 0..BATCH {
            ask().await;
        }
        shares.push(new.count() - before);
        (new.count() - before >= BATCH * 45 / 100).then_some(())
    })
    .await;
    assert!(shares[0] < BATCH / 4, "of {BATCH} requests at a time it got {shares:?}");
}
