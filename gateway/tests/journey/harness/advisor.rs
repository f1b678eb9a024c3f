//! Advisor: an authority that says when to renew (RFC 9773), which Debian's `pebble` does not: it stands before one, passes on what
//! is asked, and adds what is missing.
//!
//! For: certificates that are renewed before their time. May touch: loopback sockets. Promises: what it advises is always at once; it
//! keeps what it was asked about, and which certificates were to be replaced. Read next: `pebble.rs`, `../acme.rs`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::pebble::Pebble;
use super::server;

/// Where certificates are asked about; their names follow.
const ADVICE: &str = "/renewal-info/";

/// How long advice holds, in seconds.
const HOLDS_SECONDS: u32 = 3600;

/// The number that makes a request one of its own (RFC 8555 §6.5).
const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// A running advisor.
pub struct Advisor {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    own: SocketAddr,
    authority: SocketAddr,
    client: reqwest::Client,
    asked: Mutex<Vec<String>>,
    replaced: Mutex<Vec<String>>,
}

impl Advisor {
    /// Starts one before an authority.
    pub async fn start(pebble: &Pebble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            own,
            authority: pebble.address(),
            client: pebble.client(),
            asked: Mutex::default(),
            replaced: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, pebble.acceptor(), Arc::clone(&shared)));
        Self { shared, task }
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.shared.own)
    }

    /// The certificates that it was asked about, by the names of RFC 9773.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().expect("no holder panicked").clone()
    }

    /// The certificates in whose place others were ordered.
    pub fn replaced(&self) -> Vec<String> {
        self.shared.replaced.lock().expect("no holder panicked").clone()
    }
}

impl Drop for Advisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // A client that does not trust it leaves in the handshake.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // How a connection ends shows in what was asked on it.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole request").to_bytes();
    let path = head.uri.path().to_owned();
    if let Some(certificate) = path.strip_prefix(ADVICE) {
        shared.asked.lock().expect("no holder panicked").push(certificate.to_owned());
        // It should have been renewed long ago.
        let window = json!({ "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z" });
        let mut advice = server::json(StatusCode::OK, &json!({ "suggestedWindow": window }));
        advice.headers_mut().insert(RETRY_AFTER, HeaderValue::from(HOLDS_SECONDS));
        return Ok(advice);
    }
    // The host is that of the advisor: the authority makes its URLs from it, and compares it with what was signed.
    let mut asked = shared.client.request(head.method, format!("https://{}{path}", shared.authority));
    asked = asked.header(HOST, shared.own.to_string()).body(body.clone());
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        asked = asked.header(CONTENT_TYPE, kind);
    }
    let said = asked.send().await.expect("pebble answers");
    let (status, headers) = (said.status(), said.headers().clone());
    let mut text = said.bytes().await.expect("a whole answer");
    let replaced = if path.starts_with("/order") { replaced(&body) } else { None };
    if path == "/dir" {
        text = with(&text, "renewalInfo", format!("https://{}{}", shared.own, ADVICE.trim_end_matches('/')));
    } else if let Some(replaced) = replaced.filter(|_| status == 201) {
        // RFC 9773 §5: whoever takes it in says so.
        text = with(&text, "replaces", replaced.clone());
        shared.replaced.lock().expect("no holder panicked").push(replaced);
    }
    let mut reply = Response::new(Full::new(text));
    *reply.status_mut() = status;
    for name in [CONTENT_TYPE, LOCATION, RETRY_AFTER, REPLAY_NONCE] {
        if let Some(value) = headers.get(&name) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    Ok(reply)
}

/// Which certificate a new order takes the place of: a field of what was signed (RFC 7515 §7.2.2).
fn replaced(body: &[u8]) -> Option<String> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    Some(payload["replaces"].as_str()?.to_owned())
}

/// A JSON object with one more field.
fn with(text: &[u8], name: &str, value: String) -> Bytes {
    let mut object: Value = serde_json::from_slice(text).expect("a JSON object");
    object[name] = Value::from(value);
    Bytes::from(object.to_string())
}
