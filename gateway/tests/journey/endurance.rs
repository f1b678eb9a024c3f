//! Endurance: many streams through many reloads, and every part replaced under load, with nobody noticing.
//!
//! Read next: `floods.rs` for what is meant to be noticed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use testkit::redis::free_address;
use testkit::wait::{PATIENCE, until, within};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::client;
use crate::harness::gateway::Gateway;
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};
use crate::harness::upstream::Echo;

/// Streams of each kind that are open all the while.
const STREAMS: usize = 500;

/// Reloads; every other one is of a broken file.
const RELOADS: usize = 200;

/// Time between two events of a stream.
const EVENT_EVERY: Duration = Duration::from_millis(500);

const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An upstream that turns `/chat` into an echo of bytes, sends events without end at `/events`, and answers the rest.
async fn streaming() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a listening socket accepts");
            // A connection that ends shows at the other side of the gateway.
            tokio::spawn(async move { drop(serve(stream).await) });
        }
    });
    (address, task)
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let Some(head) = read_head(&mut stream).await else { return Ok(()) };
        if head.starts_with("GET /chat") {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await?;
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await?;
            return Ok(());
        } else if head.starts_with("GET /events") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await?;
            loop {
                stream.write_all(b"8\r\ndata: e\n\r\n").await?;
                tokio::time::sleep(EVENT_EVERY).await;
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
    }
}

/// The head of a request or an answer; `None` when the connection ends before.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

async fn open(gateway: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.expect("the gateway listens");
    stream.write_all(request).await.expect("sent");
    let head = within("the stream opens", PATIENCE, read_head(&mut stream)).await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 101") || head.starts_with("HTTP/1.1 200"), "{head}");
    stream
}

/// Reads events until it is told that all is over; how many there were.
async fn listen(mut stream: TcpStream, over: Arc<AtomicBool>) -> usize {
    let mut events = 0;
    let mut piece = [0; 512];
    while !over.load(Ordering::SeqCst) {
        let read = within("the next event", PATIENCE, stream.read(&mut piece)).await;
        let count = read.expect("the stream is open");
        assert_ne!(count, 0, "the stream was cut");
        events += piece[..count].windows(7).filter(|window| window == b"data: e").count();
    }
    events
}

/// Sends words and wants them back until it is told that all is over.
async fn chat(mut stream: TcpStream, over: Arc<AtomicBool>) -> usize {
    let mut words = 0;
    while !over.load(Ordering::SeqCst) {
        stream.write_all(b"<hello>").await.expect("the socket is open");
        let mut word = [0; 7];
        within("the word comes back", PATIENCE, stream.read_exact(&mut word)).await.expect("the socket is open");
        words += 1;
        tokio::time::sleep(EVENT_EVERY).await;
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_live_through_two_hundred_reloads() {
    let (address, server) = streaming().await;
    // All clients have one address here.
    let head = HEAD.replace("server: {", "server: { max_connections_per_address: 5000,");
    let settings = |number: usize| {
        format!(
            "{head}{HTTP}{}routes:\n  - {{ id: chat, path: /chat, auth: none, to: api, websocket: true }}\n  \
             - {{ id: open-{number}, path: /*, auth: none, to: api }}\n",
            upstream(&Pool::of(&[address]).first_byte("10s"))
        )
    };
    let gateway = Gateway::plain(&settings(0)).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut streams = Vec::with_capacity(2 * STREAMS);
    for _ in 0..STREAMS {
        let socket = open(gateway.address("http"), UPGRADE).await;
        streams.push(tokio::spawn(chat(socket, Arc::clone(&over))));
        let events = open(gateway.address("http"), b"GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        streams.push(tokio::spawn(listen(events, Arc::clone(&over))));
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let load = tokio::spawn({
        let (url, over, answered) = (gateway.url("/x"), Arc::clone(&over), Arc::clone(&answered));
        async move {
            let client = client::plain();
            while !over.load(Ordering::SeqCst) {
                client::send(client.get(&url)).await.expect_status(200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let mut early_kib = 0;
    for number in 0..RELOADS {
        let before = answered.load(Ordering::SeqCst);
        if number % 2 == 0 {
            gateway.rewrite(&settings(number / 2));
            gateway.reload().await.expect_status(200);
        } else {
            gateway.rewrite("version: 1\nroutes: nonsense\n");
            gateway.reload().await.expect_status(422);
        }
        until("requests go on", PATIENCE, async || (answered.load(Ordering::SeqCst) > before).then_some(())).await;
        if number == RELOADS / 4 {
            early_kib = gateway.resident_kib();
        }
    }
    let late_kib = gateway.resident_kib();
    over.store(true, Ordering::SeqCst);
    within("the load ends", PATIENCE, load).await.expect("no request failed");
    let mut least = usize::MAX;
    for stream in streams {
        least = least.min(within("a stream ends", PATIENCE, stream).await.expect("no stream was cut"));
    }
    server.abort();
    assert!(least > 0, "every stream has carried something");
    println!("{early_kib} KiB after {} reloads, {late_kib} KiB after {RELOADS}", RELOADS / 4);
    assert!(late_kib * 100 <= early_kib * 105, "memory grew from {early_kib} to {late_kib} KiB");
}

/// Sends requests until it is told that all is over, and fails with the first that fails.
fn keep_asking(url: String, over: &Arc<AtomicBool>, answered: &Arc<AtomicUsize>) -> JoinHandle<()> {
    let (over, answered) = (Arc::clone(over), Arc::clone(answered));
    tokio::spawn(async move {
        let client = client::plain();
        while !over.load(Ordering::SeqCst) {
            client::send(client.get(&url)).await.expect_status(200);
            answered.fetch_add(1, Ordering::SeqCst);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_are_replaced_under_load_and_no_request_fails() {
    let mut echoes = vec![Echo::start().await, Echo::start().await];
    let settings =
        |addresses: &[SocketAddr]| format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(addresses).probed()));
    let addresses = |echoes: &[Echo]| echoes.iter().map(Echo::address).collect::<Vec<_>>();
    let gateway = Gateway::plain(&settings(&addresses(&echoes))).await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4).map(|_| keep_asking(gateway.url("/x"), &over, &answered)).collect();
    let some_more = async || {
        let before = answered.load(Ordering::SeqCst);
        until("requests go on", PATIENCE, async || (answered.load(Ordering::SeqCst) > before + 50).then_some(()))
            .await;
    };
    // As an orchestrator does: a new one comes, the oldest is taken out of the list, and then it goes.
    for _ in 0..4 {
        echoes.push(Echo::start().await);
        gateway.rewrite(&settings(&addresses(&echoes[1..])));
        gateway.reload().await.expect_status(200);
        some_more().await;
        let oldest = echoes.remove(0);
        oldest.stop().await;
        some_more().await;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        within("a client ends", PATIENCE, client).await.expect("no request failed");
    }
}

/// Passes connections on to the first gateway that takes them, as a balancer of layer 4 does.
async fn balancer(gateways: [SocketAddr; 2]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let task = tokio::spawn(async move {
        for turn in 0_usize.. {
            let (mut client, _) = listener.accept().await.expect("a listening socket accepts");
            tokio::spawn(async move {
                for step in 0..2 {
                    if let Ok(mut server) = TcpStream::connect(gateways[(turn + step) % 2]).await {
                        // Either side may end it; whoever sent a request sees whether it was answered.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        return;
                    }
                }
            });
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_gateways_is_restarted_under_load_and_no_request_fails() {
    let echo = Echo::start().await;
    let addresses = [free_address(), free_address()];
    let settings = |address: SocketAddr| {
        let http = format!("listeners:\n  http: {{ bind: \"{address}\" }}\n");
        format!("{HEAD}{http}{}{OPEN}", upstream(&Pool::of(&[echo.address()])))
    };
    let _staying = Gateway::plain(&settings(addresses[0])).await;
    let (front, balancer) = balancer(addresses).await;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut going = Gateway::plain(&settings(addresses[1])).await;
    let clients: Vec<_> = (0..4).map(|_| keep_asking(format!("http://{front}/x"), &over, &answered)).collect();
    for _ in 0..3 {
        let before = answered.load(Ordering::SeqCst);
        until("requests go on", PATIENCE, async || (answered.load(Ordering::SeqCst) > before + 50).then_some(()))
            .await;
        going.terminate();
        assert_eq!(going.ended(PATIENCE).await.status.code(), Some(0));
        going = Gateway::plain(&settings(addresses[1])).await;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        within("a client ends", PATIENCE, client).await.expect("no request failed");
    }
    balancer.abort();
}
