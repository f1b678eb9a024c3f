//! Server: a small HTTP server that can be switched off like a machine that loses power.
//!
//! For: the echo upstream, the issuer's key set, the source of API keys. May touch: loopback sockets.
//! Promises: `stop` ends the listener and every connection, also those with a request in flight.
//! Read next: `upstream.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The largest body a test sends.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// An answer, ready to be sent.
pub type Reply = Response<Full<Bytes>>;

/// A request that has arrived completely.
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its target, byte for byte: path and query.
    pub target: String,
    /// Its fields, in the order of arrival for each name.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A running server; dropping it stops it.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on a port of the system's choice.
    pub async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Asked) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::start_at(SocketAddr::from((IpAddr::from(Ipv4Addr::LOCALHOST), 0)), handler).await
    }

    /// Listens on exactly this address.
    pub async fn start_at<H, F>(address: SocketAddr, handler: H) -> Self
    where
        H: Fn(Asked) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let bound = TcpListener::bind(address).await;
        let listener = bound.unwrap_or_else(|error| panic!("{address} cannot be listened on: {error}"));
        let address = listener.local_addr().expect("a bound socket has an address");
        Self { address, task: tokio::spawn(accept(listener, Arc::new(handler))) }
    }

    /// Ends the listener and every connection, and returns when they are closed.
    pub async fn stop(mut self) {
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the server was running until now");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<H, F>(listener: TcpListener, handler: Arc<H>)
where
    H: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    // Dropped with this task, the set ends its connections.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a listening socket accepts");
        connections.spawn(serve(stream, Arc::clone(&handler)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<H, F>(stream: TcpStream, handler: Arc<H>)
where
    H: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let (head, body) = request.into_parts();
            let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => return Err(error.to_string()),
            };
            let target = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
            let asked = Asked { method: head.method, target, headers: head.headers, body };
            Ok(handler(asked).await)
        }
    });
    // A peer that hangs up is an everyday event for a server; what matters to a test, it sees from its own side.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(value.to_string())));
    *reply.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
    reply
}
