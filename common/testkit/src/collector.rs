//! Collector: takes traces by OTLP over HTTP (protobuf), and keeps them.
//!
//! For: seeing what the programs tell. May touch: loopback sockets. Promises: every batch is accepted; what came is kept as
//! spans and as bytes, so that a test can say what must not be in it. Read next: `wait.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The largest batch, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A running collector.
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

/// A span as it was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// `service.name` of the program.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `server`, `client`, `internal`, `consumer`, or another by its number.
    pub kind: String,
    /// The trace's number, in hexadecimal.
    pub trace_id: String,
    /// Its own number, in hexadecimal.
    pub span_id: String,
    /// The number of the span above it; empty if there is none.
    pub parent_id: String,
    /// What is said of it, as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether it has failed.
    pub failed: bool,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Told>,
    bytes: Vec<u8>,
    heads: Vec<String>,
}

impl Told {
    /// What is said of it under this name; empty if nothing is.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Starts one on a port of the system's choice.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one on exactly this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let keeping = Arc::clone(&kept);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A connection that breaks is the program's affair.
                tokio::spawn(serve(stream, Arc::clone(&keeping)));
            }
        });
        Self { address, kept, task }
    }

    /// Its address as the programs' settings name it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Told> {
        self.kept().spans.clone()
    }

    /// The spans of one trace so far.
    pub fn trace(&self, trace_id: &str) -> Vec<Told> {
        self.kept().spans.iter().filter(|span| span.trace_id == trace_id).cloned().collect()
    }

    /// Whether this text is anywhere in the batches that came.
    pub fn holds(&self, text: &str) -> bool {
        self.kept().bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// The heads of the requests by which the batches came.
    pub fn heads(&self) -> Vec<String> {
        self.kept().heads.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panicked with it")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Kept>>) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head_bytes = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_bytes]).into_owned();
        let length = content_length(&head).min(BODY_BYTES_MAX);
        while buffer.len() < head_bytes + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        take(&kept, head, &buffer[head_bytes..head_bytes + length]);
        buffer.drain(..head_bytes + length);
        // An empty message says that everything was accepted.
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
            .await?;
    }
}

fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

fn take(kept: &Mutex<Kept>, head: String, body: &[u8]) {
    let batch = ExportTraceServiceRequest::decode(body).expect("a batch of spans");
    let mut kept = kept.lock().expect("nobody panicked with it");
    kept.heads.push(head);
    kept.bytes.extend_from_slice(body);
    for resource_spans in batch.resource_spans {
        let resource = resource_spans.resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
        let service = resource.get("service.name").cloned().unwrap_or_default();
        let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.spans.extend(spans.map(|span| told(&service, &span)));
    }
}

fn told(service: &str, span: &Span) -> Told {
    let kind = match span.kind {
        1 => "internal".to_owned(),
        2 => "server".to_owned(),
        3 => "client".to_owned(),
        5 => "consumer".to_owned(),
        other => other.to_string(),
    };
    Told {
        service: service.to_owned(),
        name: span.name.clone(),
        kind,
        trace_id: hexadecimal(&span.trace_id),
        span_id: hexadecimal(&span.span_id),
        parent_id: hexadecimal(&span.parent_span_id),
        attributes: attributes(&span.attributes),
        // 2 is an error (opentelemetry-proto, `Status`).
        failed: span.status.as_ref().is_some_and(|status| status.code == 2),
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    list.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
