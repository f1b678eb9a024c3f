//! Upgrade: a new process in the place of the running one, and nobody on the way notices.
//!
//! What counts as failed: a connection that does not come about, and a request that was sent and not completely answered with
//! 200. Read next: `shutdown.rs`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use testkit::process::{Ended, Program};
use testkit::wait::{PATIENCE, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixDatagram};

use crate::egress::{SWITCH, UPGRADE, by_hand, read_until};
use crate::harness::client;
use crate::harness::gateway::{Gateway, command, write_settings};
use crate::harness::pki::Authority;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, listeners, upstream};
use crate::harness::tls::{Connection, H1, H2, Hello, Lost};
use crate::harness::upstream::{Echo, Fault, Faulty};

/// `EX_USAGE`: the configuration is wrong.
const EXIT_BAD_CONFIG: i32 = 64;

/// `EX_UNAVAILABLE`: there is nobody to take over from.
const EXIT_NOBODY: i32 = 69;

/// Answers that show that the load goes on.
const ANSWERS: usize = 300;

/// Clients that open a connection for each request.
const CONNECTING: usize = 8;

const ONCE: &[u8] = b"GET /once HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// What the clients of a load share.
#[derive(Clone)]
struct Load {
    http: SocketAddr,
    https: SocketAddr,
    authority: Arc<Authority>,
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_upgrades_under_load_fail_no_connection_and_no_request() {
    let (authority, echo) = (Arc::new(Authority::new()), Echo::start().await);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listeners = listeners(&[authority.issue(folder.path(), "gateway.test")], "1.2");
    let head = head(folder.path());
    let settings = format!("{head}{listeners}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let first = Gateway::start(&settings, &["http", "https"]).await;
    let load = Load {
        http: first.address("http"),
        https: first.address("https"),
        authority,
        answered: Arc::default(),
        over: Arc::default(),
    };
    let mut clients: Vec<_> = (0..CONNECTING).map(|_| tokio::spawn(connect_again_and_again(load.clone()))).collect();
    clients.extend([&H1, &H1, &H2].map(|hello| tokio::spawn(keep_asking(load.clone(), hello))));
    load.goes_on().await;

    let mut running = first;
    for _ in 0..2 {
        let next = upgrade(&settings, &["http", "https"]).await;
        for listener in ["http", "https"] {
            assert_eq!(next.address(listener), running.address(listener), "the same socket");
        }
        assert_eq!(next.admin_address(), running.admin_address());
        let ended = running.ended(PATIENCE).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("\"drained\""), "nothing was cut:\n{}", ended.stderr);
        running = next;
        load.goes_on().await;
    }
    load.over.store(true, Ordering::SeqCst);
    for client in clients {
        within("a client is done", PATIENCE, client).await.expect("no client has seen a failure");
    }
    running.admin("/health/ready").await.expect_status(200);
    running.terminate();
    let ended = running.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!folder.path().join("upgrade.sock").exists(), "the socket goes with the last process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_websockets_stay_with_the_old_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (echo, (address, mut upstream_side)) = (Echo::start().await, by_hand().await);
    let settings = format!(
        "{}{HTTP}upstreams:\n  api: {}\n  hand: {}\nroutes:\n  - {{ id: events, path: /events, auth: none, to: hand }}\n  \
         - {{ id: chat, path: /chat, auth: none, to: hand, websocket: true }}\n  \
         - {{ id: open, path: /*, auth: none, to: api }}\n",
        head(folder.path()),
        Pool::of(&[echo.address()]),
        Pool::of(&[address]),
    );
    let first = Gateway::start(&settings, &["http"]).await;
    let mut events = TcpStream::connect(first.address("http")).await.expect("the gateway listens");
    events.write_all(b"GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n").await.expect("sent");
    let mut events_from = within("the request arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
    read_until(&mut events_from, "\r\n\r\n").await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    events_from.write_all(head).await.expect("sent");
    read_until(&mut events, "\r\n\r\n").await;
    let mut chat = TcpStream::connect(first.address("http")).await.expect("the gateway listens");
    chat.write_all(UPGRADE).await.expect("sent");
    let mut chat_with = within("the upgrade arrives", PATIENCE, upstream_side.recv()).await.expect("a connection");
    read_until(&mut chat_with, "\r\n\r\n").await;
    chat_with.write_all(SWITCH).await.expect("sent");
    read_until(&mut chat, "\r\n\r\n").await;

    let second = upgrade(&settings, &["http"]).await;
    until("the old process drains", PATIENCE, async || first.said().contains("handed over, draining").then_some(()))
        .await;
    client::send(client::plain().get(second.url("/x"))).await.expect_status(200);
    second.access_log("the request after the upgrade", |entry| entry["path"] == "/x").await;
    for number in 0..3 {
        let event = format!("data: event {number}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        events_from.write_all(chunk.as_bytes()).await.expect("sent");
        read_until(&mut events, &event).await;
        chat.write_all(format!("<question {number}>").as_bytes()).await.expect("sent");
        read_until(&mut chat_with, &format!("<question {number}>")).await;
        chat_with.write_all(format!("<answer {number}>").as_bytes()).await.expect("sent");
        read_until(&mut chat, &format!("<answer {number}>")).await;
    }
    events_from.write_all(b"0\r\n\r\n").await.expect("sent");
    read_until(&mut events, "0\r\n\r\n").await;
    drop((chat, chat_with));
    let ended = first.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("\"drained\""), "nothing was cut:\n{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_fails_leaves_the_old_one_as_it_was() {
    let (folder, echo) = (tempfile::tempdir().expect("a temporary folder"), Echo::start().await);
    let base = format!("{}{HTTP}{}", head(folder.path()), upstream(&Pool::of(&[echo.address()])));
    let settings = format!("{base}{OPEN}");
    let first = Gateway::start(&settings, &["http"]).await;
    let serves = async || client::send(client::plain().get(first.url("/x"))).await.status == 200;

    let broken = format!("{base}routes:\n  - {{ id: open, path: /*, auth: none, to: nobody }}\n");
    let ended = run_upgrade(&broken).await;
    assert_eq!(ended.status.code(), Some(EXIT_BAD_CONFIG), "{}", ended.stderr);
    assert!(ended.stderr.contains("no upstream is called"), "{}", ended.stderr);
    assert!(serves().await && !first.said().contains("asked to hand over"), "it has not even heard of it");

    // It waits for a key set that does not come, and is killed meanwhile.
    let silent = Faulty::start(Fault::Silence).await;
    let waiting = format!(
        "{base}auth:\n  tokens: {{ jwt: {{ issuer: i, audience: a, jwks: {{ urls: [\"http://{}/keys\"] }} }} }}\n\
         routes:\n  - {{ id: kept, path: /kept, auth: [tokens], require: [read], to: api }}\n",
        silent.address
    );
    let other = tempfile::tempdir().expect("a temporary folder");
    let mut command = command("run", &write_settings(other.path(), &waiting));
    command.arg("--upgrade");
    let killed = Program::start("gateway", command, "");
    until("the sockets are asked for", PATIENCE, async || first.said().contains("asked to hand over").then_some(()))
        .await;
    until("it waits for the key set", PATIENCE, async || (silent.count() > 0).then_some(())).await;
    assert!(serves().await, "while the other one waits");
    killed.signal("KILL");
    until("the old one notices", PATIENCE, async || first.said().contains("not handed over").then_some(())).await;
    assert!(serves().await, "after the other one was killed");
    first.admin("/health/ready").await.expect_status(200);

    let second = upgrade(&settings, &["http"]).await;
    assert_eq!(second.address("http"), first.address("http"), "the next attempt is as good as the first");
    let ended = first.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_the_new_configuration_does_not_want_are_closed_and_others_bound() {
    let (folder, echo) = (tempfile::tempdir().expect("a temporary folder"), Echo::start().await);
    let settings = |listener: &str| {
        format!(
            "{}listeners:\n  http: {{ bind: \"127.0.0.1:0\" }}\n  {listener}: {{ bind: \"127.0.0.1:0\" }}\n{}{OPEN}",
            head(folder.path()),
            upstream(&Pool::of(&[echo.address()]))
        )
    };
    let first = Gateway::start(&settings("old"), &["http", "old"]).await;
    let (kept, gone) = (first.address("http"), first.address("old"));
    let second = upgrade(&settings("new"), &["http", "new"]).await;
    assert_eq!(second.address("http"), kept);
    let ended = first.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(TcpStream::connect(gone).await.is_err(), "nobody holds it any more");
    for address in [kept, second.address("new")] {
        client::send(client::plain().get(format!("http://{address}/x"))).await.expect_status(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_be_upgraded_or_must_not_start_is_told_why() {
    let (folder, echo) = (tempfile::tempdir().expect("a temporary folder"), Echo::start().await);
    let rest = format!("{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let settings = format!("{}{rest}", head(folder.path()));
    let ended = run_upgrade(&settings).await;
    assert_eq!(ended.status.code(), Some(EXIT_NOBODY), "{}", ended.stderr);
    assert!(ended.stderr.contains("leave --upgrade out"), "{}", ended.stderr);
    let ended = run_upgrade(&format!("{HEAD}{rest}")).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("--upgrade needs server.upgrade_socket"), "{}", ended.stderr);

    let first = Gateway::start(&settings, &["http"]).await;
    let other = tempfile::tempdir().expect("a temporary folder");
    let file = write_settings(other.path(), &settings);
    let ended = Program::start("gateway", command("run", &file), "").ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("to take over from it, use --upgrade"), "{}", ended.stderr);
    client::send(client::plain().get(first.url("/x"))).await.expect_status(200);

    // The file of one that was killed is no hindrance, neither way.
    drop(first);
    assert!(folder.path().join("upgrade.sock").exists(), "nobody took it away");
    let ended = run_upgrade(&settings).await;
    assert_eq!(ended.status.code(), Some(EXIT_NOBODY), "{}", ended.stderr);
    let second = Gateway::start(&settings, &["http"]).await;
    let third = upgrade(&settings, &["http"]).await;
    assert_eq!(third.address("http"), second.address("http"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_hears_of_starts_reloads_upgrades_and_ends() {
    let (folder, echo) = (tempfile::tempdir().expect("a temporary folder"), Echo::start().await);
    let settings = format!("{}{HTTP}{}{OPEN}", head(folder.path()), upstream(&Pool::of(&[echo.address()])));
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let next = async || {
        let mut bytes = [0; 256];
        let count = within("the service manager hears something", PATIENCE, manager.recv(&mut bytes)).await;
        String::from_utf8_lossy(&bytes[..count.expect("a message")]).into_owned()
    };
    let first = Gateway::start_as(&settings, &["http"], |command| {
        command.env("NOTIFY_SOCKET", &path);
    })
    .await;
    assert_eq!(next().await, "READY=1");
    first.signal("HUP");
    assert!(next().await.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next().await, "READY=1");

    let second = Gateway::start_as(&settings, &["http"], |command| {
        command.arg("--upgrade").env("NOTIFY_SOCKET", &path);
    })
    .await;
    let ended = first.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    // One from each process, in whichever order.
    let mut told = [next().await, next().await];
    told.sort_unstable();
    let process = told[0].strip_prefix("MAINPID=").expect("the old one names the new one");
    assert_eq!(told[1], format!("READY=1\nMAINPID={process}"), "as it does itself");
    let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).expect("it runs");
    assert!(line.contains("--upgrade"), "{line:?}");

    second.terminate();
    assert_eq!(next().await, "STOPPING=1");
    let ended = second.ended(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

impl Load {
    /// Waits until some more requests were answered.
    async fn goes_on(&self) {
        let before = self.answered.load(Ordering::SeqCst);
        until("the load goes on", PATIENCE, async || {
            (self.answered.load(Ordering::SeqCst) >= before + ANSWERS).then_some(())
        })
        .await;
    }

    async fn open(&self, hello: &Hello) -> Connection {
        let opened = Connection::open(self.https, "gateway.test", &self.authority, hello).await;
        opened.expect("a connection and a handshake")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Settings with an upgrade socket in this folder, and no bound on connections that a load from one address would meet.
fn head(folder: &Path) -> String {
    let socket = folder.join("upgrade.sock");
    let server = format!(
        "server: {{ drain: 10s, upgrade_socket: {}, max_connections_per_address: 10000, \
         flood_guard: {{ connections_per_second: 0, requests_per_second: 0 }} }}",
        socket.display()
    );
    let head = HEAD.replace("server: { drain: 10s }", &server);
    assert_ne!(head, HEAD);
    head
}

/// Starts a gateway that takes over, and waits until it has.
async fn upgrade(settings: &str, listeners: &[&str]) -> Gateway {
    let gateway = Gateway::start_as(settings, listeners, |command| {
        command.arg("--upgrade");
    })
    .await;
    until("it took over", PATIENCE, async || gateway.said().contains("\"took over\"").then_some(())).await;
    gateway
}

/// Starts one that is expected to end by itself.
async fn run_upgrade(settings: &str) -> Ended {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = command("run", &write_settings(folder.path(), settings));
    command.arg("--upgrade");
    Program::start("gateway", command, "").ended(PATIENCE).await
}

/// A new connection for every request.
async fn connect_again_and_again(load: Load) {
    while !load.is_over() {
        let answer = within("a connection and its answer", PATIENCE, async {
            let mut stream = TcpStream::connect(load.http).await.expect("a connection");
            stream.write_all(ONCE).await.expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            String::from_utf8_lossy(&answer).into_owned()
        })
        .await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('}'), "{answer:?}");
        load.answered.fetch_add(1, Ordering::SeqCst);
        // All of them together then open several each millisecond, and not as many as there are ports.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Asks without a pause on one connection, and on a new one when that is ended, which must always be had.
async fn keep_asking(load: Load, hello: &'static Hello) {
    let mut connection = load.open(hello).await;
    while !load.is_over() {
        match within("an answer", PATIENCE, connection.get("/load", None)).await {
            Ok((status, _)) => {
                assert_eq!(status, StatusCode::OK);
                load.answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(Lost::NotSent) => connection = load.open(hello).await,
            Err(lost) => panic!("a request failed: {lost}"),
        }
    }
}
