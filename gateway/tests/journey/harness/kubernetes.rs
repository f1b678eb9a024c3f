//! Kubernetes: an API server that knows the `EndpointSlices` of one service, by the bytes of HTTP/1.1 over TLS.
//!
//! For: discovery by Kubernetes. May touch: one loopback socket, a temporary folder for its authority and the token.
//! Promises: lists come in pages, watches tell every change since a version, a version that is too old is 410, and without the
//! token there is nothing; what was asked is kept. Read next: `../kubernetes.rs`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::pki::Authority;

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A running API server.
pub struct Kubernetes {
    address: SocketAddr,
    acceptor: TlsAcceptor,
    folder: TempDir,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    token: String,
    /// Slices on one page, at most.
    page: usize,
    version: u64,
    /// Watches from before this version are refused.
    oldest: u64,
    slices: BTreeMap<String, Value>,
    events: Vec<(u64, Value)>,
    /// How often all watches were ended.
    ends: usize,
    lists: usize,
    pages: usize,
    watches: usize,
    refused: usize,
    expired: usize,
}

/// What was asked so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Lists, from their first page.
    pub lists: usize,
    /// Pages of lists.
    pub pages: usize,
    /// Watches that began.
    pub watches: usize,
    /// Requests without the token.
    pub refused: usize,
    /// Watches that were answered by 410.
    pub expired: usize,
}

impl Kubernetes {
    /// Starts one that knows no slice, and gives so many on a page.
    pub async fn start(page: usize) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().expect("a temporary folder");
        authority.write_certificate(folder.path());
        let state = State {
            token: "first".to_owned(),
            page,
            version: 1,
            oldest: 0,
            slices: BTreeMap::new(),
            events: Vec::new(),
            ends: 0,
            lists: 0,
            pages: 0,
            watches: 0,
            refused: 0,
            expired: 0,
        };
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            acceptor: authority.acceptor("127.0.0.1"),
            folder,
            shared: Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(()) }),
            task: None,
        };
        server.write_token("first");
        server.resume().await;
        server
    }

    /// The settings of an upstream whose servers are found there.
    pub fn discovery(&self, port: &str) -> String {
        let folder = self.folder.path().display();
        format!(
            "discovery: {{ kubernetes: {{ service: api, namespace: shop, port: {port}, server: \"https://{}\", \
             ca: \"{folder}/authority.crt\", token: \"file:{folder}/token\" }} }}",
            self.address
        )
    }

    /// Adds a slice, or changes the one of this name.
    pub fn put(&self, name: &str, slice: Value) {
        let mut state = self.shared.state();
        let kind = if state.slices.contains_key(name) { "MODIFIED" } else { "ADDED" };
        let slice = state.store(name, slice);
        state.tell(kind, slice);
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// Takes a slice away.
    pub fn remove(&self, name: &str) {
        let mut state = self.shared.state();
        let slice = state.slices.remove(name).expect("a slice that was put");
        state.version += 1;
        state.tell("DELETED", slice);
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// Tells the watches that nothing has changed until now.
    pub fn bookmark(&self) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version.to_string();
        let object =
            json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": version }, "endpoints": null });
        state.tell("BOOKMARK", object);
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// Ends every watch in good order, as after its time.
    pub fn end_watches(&self) {
        self.shared.state().ends += 1;
        self.shared.changed.send_replace(());
    }

    /// Changes a slice without telling anybody, forgets all that was before, and ends every watch.
    pub fn put_and_forget(&self, name: &str, slice: Value) {
        let mut state = self.shared.state();
        state.store(name, slice);
        state.events.clear();
        state.oldest = state.version;
        state.ends += 1;
        drop(state);
        self.shared.changed.send_replace(());
    }

    /// From now on only this token is good; it stands in the file at once, as the kubelet writes it.
    pub fn rotate(&self, token: &str) {
        self.write_token(token);
        token.clone_into(&mut self.shared.state().token);
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        let state = self.shared.state();
        Counts {
            lists: state.lists,
            pages: state.pages,
            watches: state.watches,
            refused: state.refused,
            expired: state.expired,
        }
    }

    /// Goes away, with every connection.
    pub async fn stop(&mut self) {
        let task = self.task.take().expect("it runs");
        task.abort();
        let ended = task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the server ran until now");
    }

    /// Listens where it did before, or for the first time.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("a free address");
        self.address = listener.local_addr().expect("a bound socket has an address");
        let (acceptor, shared) = (self.acceptor.clone(), Arc::clone(&self.shared));
        self.task = Some(tokio::spawn(async move {
            // Dropped with this task, the set ends its connections.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a listening socket accepts");
                connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    fn write_token(&self, token: &str) {
        // Renamed into its place, so that nobody reads half of it.
        let (new, file) = (self.folder.path().join("token.new"), self.folder.path().join("token"));
        std::fs::write(&new, format!("{token}\n")).expect("a temporary folder can be written");
        std::fs::rename(new, file).expect("in the same folder");
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panicked")
    }
}

impl State {
    fn store(&mut self, name: &str, mut slice: Value) -> Value {
        self.version += 1;
        slice["metadata"] = json!({ "name": name, "namespace": "shop", "resourceVersion": self.version.to_string() });
        self.slices.insert(name.to_owned(), slice.clone());
        slice
    }

    fn tell(&mut self, kind: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.events.push((self.version, json!({ "type": kind, "object": object })));
    }

    /// A page of the list. The token for the next one is its first position.
    fn list(&mut self, query: &HashMap<String, String>) -> Value {
        let first = query.get("continue").map_or(0, |next| next.parse().expect("a token that it gave"));
        let limit: usize = query["limit"].parse().expect("a number");
        let end = first + limit.min(self.page);
        self.lists += usize::from(first == 0);
        self.pages += 1;
        let items: Vec<_> = self.slices.values().skip(first).take(end - first).collect();
        let next = if end < self.slices.len() { end.to_string() } else { String::new() };
        let version = self.version.to_string();
        json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": version, "continue": next }, "items": items })
    }
}

/// A slice of IPv4 endpoints, each with its conditions, and one port that is called `http`.
pub fn slice(port: u16, endpoints: &[(SocketAddr, Value)]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, conditions)| json!({ "addresses": [address.ip().to_string()], "conditions": conditions }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }, { "name": "other", "port": 9, "protocol": "TCP" }],
    })
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // A client that does not trust it leaves in the handshake.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    while let Some(head) = read_head(&mut stream).await {
        if answer(&mut stream, &head, &shared).await.is_err() {
            return;
        }
    }
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return None;
        }
    }
    Some(String::from_utf8(head).expect("a head in ASCII"))
}

async fn answer(stream: &mut TlsStream<TcpStream>, head: &str, shared: &Shared) -> std::io::Result<()> {
    let target = head.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()).expect("a GET");
    let url = url::Url::parse(&format!("https://h{target}")).expect("a target");
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let bearer = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
    let reply = {
        let mut state = shared.state();
        if bearer != state.token {
            state.refused += 1;
            Some((401, json!({ "kind": "Status", "code": 401, "message": "Unauthorized" })))
        } else if url.path() != "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
            || query.get("labelSelector").is_none_or(|selector| selector != "kubernetes.io/service-name=api")
        {
            Some((403, json!({ "kind": "Status", "code": 403, "message": "endpointslices is forbidden" })))
        } else if query.contains_key("watch") {
            state.watches += 1;
            None
        } else {
            Some((200, state.list(&query)))
        }
    };
    let Some((status, body)) = reply else { return tell(stream, &query, shared).await };
    let body = body.to_string();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await?;
    stream.flush().await
}

/// Tells changes as chunks, until the watch is ended.
async fn tell(
    stream: &mut TlsStream<TcpStream>,
    query: &HashMap<String, String>,
    shared: &Shared,
) -> std::io::Result<()> {
    assert_eq!(query.get("allowWatchBookmarks").map(String::as_str), Some("true"));
    let seconds: u64 = query["timeoutSeconds"].parse().expect("a number");
    assert!((1..=600).contains(&seconds), "a watch has an end");
    let mut told: u64 = query["resourceVersion"].parse().expect("a version that it gave");
    let mut changed = shared.changed.subscribe();
    let (ends, expired) = {
        let mut state = shared.state();
        let expired = told < state.oldest;
        state.expired += usize::from(expired);
        (state.ends, expired)
    };
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    if expired {
        let status =
            json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version" });
        chunk(stream, &json!({ "type": "ERROR", "object": status })).await?;
    }
    loop {
        changed.mark_unchanged();
        let (events, ended) = {
            let state = shared.state();
            let events: Vec<_> = state.events.iter().filter(|(version, _)| *version > told).cloned().collect();
            (events, expired || state.ends != ends)
        };
        for (version, event) in events {
            told = version;
            chunk(stream, &event).await?;
        }
        if ended {
            stream.write_all(b"0\r\n\r\n").await?;
            return stream.flush().await;
        }
        stream.flush().await?;
        let mut byte = [0];
        tokio::select! {
            heard = changed.changed() => heard.map_err(std::io::Error::other)?,
            // The client sends nothing while it listens: it has left.
            _ = stream.read(&mut byte) => return Err(std::io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// One event with its line break, cut in two, since a chunk need not be a line.
async fn chunk(stream: &mut TlsStream<TcpStream>, event: &Value) -> std::io::Result<()> {
    let line = format!("{event}\n");
    let (front, back) = line.split_at(line.len() / 2);
    for part in [front, back] {
        stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}
