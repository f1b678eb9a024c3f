//! Upstreams: one that reports exactly what it received, one that misbehaves by script.
//!
//! For: seeing what passed the gateway, and what the gateway makes of an upstream's faults.
//! May touch: loopback sockets. Promises: `Echo` keeps every request it got, except probes of `/health`.
//! Read next: `server.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::server::{self, Asked, Reply, Server};

/// Requests an echo keeps, the newest; it counts all.
const SEEN_MAX: usize = 20_000;

/// The longest head a faulty upstream reads, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The longest an echo can be asked to take, in milliseconds.
const DELAY_MS_MAX: u64 = 5_000;

/// A request as it reached an upstream.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its target, byte for byte: path and query.
    pub target: String,
    /// Every field, names in lower case, values as text.
    pub headers: Vec<(String, String)>,
    /// Its body as text.
    pub body: String,
}

/// An upstream that answers 200 with what it received, and remembers it.
///
/// A query of `delay_ms=N` makes it wait that long before it answers.
pub struct Echo {
    server: Server,
    seen: Arc<Mutex<Memory>>,
}

/// What an echo remembers.
#[derive(Default)]
struct Memory {
    newest: VecDeque<Seen>,
    count: usize,
}

impl Seen {
    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// Every value of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

impl Echo {
    /// Starts one on a port of the system's choice.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one on exactly this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let seen = Arc::new(Mutex::new(Memory::default()));
        let kept = Arc::clone(&seen);
        let server = Server::start_at(address, move |asked| echo(asked, Arc::clone(&kept))).await;
        Self { server, seen }
    }

    /// Starts so many, on one port of 127.0.0.`first` and the addresses behind it, as a name with several addresses needs.
    pub async fn start_row(first: u8, count: u8) -> Vec<Self> {
        let one = Self::start_at(SocketAddr::from(([127, 0, 0, first], 0))).await;
        let port = one.address().port();
        let mut row = vec![one];
        for last in 1..count {
            row.push(Self::start_at(SocketAddr::from(([127, 0, 0, first + last], port))).await);
        }
        row
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no handler panicked").newest.iter().cloned().collect()
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.seen.lock().expect("no handler panicked").count
    }

    /// How many requests for exactly this target so far.
    pub fn count_of(&self, target: &str) -> usize {
        let seen = self.seen.lock().expect("no handler panicked");
        seen.newest.iter().filter(|seen| seen.target == target).count()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        let seen = self.seen.lock().expect("no handler panicked");
        seen.newest.back().cloned().expect("a request has reached the upstream")
    }

    /// Goes away at once, with its listener and every connection.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

async fn echo(asked: Asked, kept: Arc<Mutex<Memory>>) -> Reply {
    if asked.target == "/health" {
        return server::json(StatusCode::OK, &json!({ "status": "ok" }));
    }
    let headers = asked.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let seen = Seen {
        method: asked.method.to_string(),
        target: asked.target,
        headers: headers.collect(),
        body: String::from_utf8_lossy(&asked.body).into_owned(),
    };
    let reply = server::json(StatusCode::OK, &report(&seen));
    let delay = delay(&seen);
    {
        let mut kept = kept.lock().expect("no handler panicked");
        kept.count += 1;
        if kept.newest.len() == SEEN_MAX {
            kept.newest.pop_front();
        }
        kept.newest.push_back(seen);
    }
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    reply
}

fn report(seen: &Seen) -> Value {
    json!({ "method": seen.method, "target": seen.target, "headers": seen.headers, "body": seen.body })
}

fn delay(seen: &Seen) -> Option<Duration> {
    let (_, query) = seen.target.split_once('?')?;
    let delay_ms = query.strip_prefix("delay_ms=")?.parse::<u64>().ok()?;
    Some(Duration::from_millis(delay_ms.min(DELAY_MS_MAX)))
}

/// What a faulty upstream does once it has read a request's head.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Keeps the connection and says nothing.
    Silence,
    /// Closes the connection.
    HangUp,
    /// Answers with what is not HTTP.
    Garbage,
    /// Announces a hundred bytes, sends four and closes.
    CutShort,
}

/// An upstream with one fault.
pub struct Faulty {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Faulty {
    /// Starts one on a port of the system's choice.
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a listening socket accepts");
                connections.spawn(misbehave(stream, fault, Arc::clone(&count)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, asked, task }
    }

    /// How many requests it got.
    pub fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn misbehave(mut stream: TcpStream, fault: Fault, asked: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    // The gateway may have left: that is its right, and shows in the test's own answer.
    let _ = match fault {
        Fault::Silence => stream.read_to_end(&mut head).await.map(|_| ()),
        Fault::HangUp => Ok(()),
        Fault::Garbage => stream.write_all(b"This is not the protocol you are looking for.\r\n\r\n").await,
        Fault::CutShort => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await,
    };
}
