//! The access log: one line of JSON a request, written by a thread of its own.
//!
//! For: handing a finished request over in a few hundred nanoseconds. May touch: standard output, on its own thread.
//! Promises: a blocked pipe never blocks a request; the queue is bounded and what finds it full is counted.
//! Credentials are not in a line, and the query of a target is not either (it may carry some).

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use common::traces::TraceId;
use http::{HeaderValue, Method};
use prometheus::IntCounter;
use serde::Serialize;

/// Lines that may wait for the writer. With paths of 100 bytes that is 6 MiB, with the longest allowed 32 MiB.
const QUEUE_LINES_MAX: usize = 16 * 1024;

/// Lines are handed to the system in blocks of about this size.
const BLOCK_BYTES: usize = 64 * 1024;

/// How often the writer looks at the queue. It holds 800,000 lines a second at this pace.
const INTERVAL: Duration = Duration::from_millis(20);

/// What is told of one request. Formatting is the writer's work. Host and path are short copies: a handle on the request
/// would keep its whole read buffer alive while the line waits.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Milliseconds since the Unix epoch, when the answer was complete.
    pub time_unix_ms: u64,
    pub request_id: HeaderValue,
    /// The trace that it belongs to, where traces are told.
    pub trace_id: Option<TraceId>,
    pub method: Method,
    pub path: Box<str>,
    pub host: Option<Box<str>>,
    pub status: u16,
    pub code: Option<&'static str>,
    pub route: Option<Arc<str>>,
    pub policy: Option<Arc<str>>,
    /// The auth schemes whose credential was there, when none was good.
    pub auth_tried: Vec<Arc<str>>,
    /// What would have been refused, were it enforced: policy and code of each.
    pub shadow: Vec<(Option<Arc<str>>, &'static str)>,
    /// The upstream's name in the configuration.
    pub to: Option<Arc<str>>,
    /// The address of its server.
    pub upstream: Option<Arc<str>>,
    pub client: Option<IpAddr>,
    pub subject: Option<Arc<str>>,
    pub duration_us: u64,
    pub upstream_us: Option<u64>,
    pub attempts: u32,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub protocol: &'static str,
    pub outcome: &'static str,
}

/// Where finished requests are handed over. Dropping every clone ends the writer.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Entry>,
    lost: IntCounter,
}

impl AccessLog {
    /// Starts the writer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(output: impl Write + Send + 'static, lost: IntCounter) -> io::Result<(Self, WriterHandle)> {
        let (queue, entries) = sync_channel(QUEUE_LINES_MAX);
        let (done, ended) = sync_channel(1);
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            Writer { output, block: Vec::with_capacity(BLOCK_BYTES + 4096) }.run(&entries);
            // When nobody waits any more, the process is being ended without this.
            let _ = done.send(());
        })?;
        Ok((Self { queue, lost }, WriterHandle(ended)))
    }

    /// Hands a line over, or counts it as lost when the queue is full.
    pub(crate) fn push(&self, entry: Entry) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(entry) {
            self.lost.inc();
        }
    }
}

/// The writer's end, to be waited for.
#[derive(Debug)]
pub(crate) struct WriterHandle(Receiver<()>);

impl WriterHandle {
    /// Waits, after the last `AccessLog` is gone, until everything is written; `false` when that takes longer than
    /// `limit`, as it does when nobody reads standard output.
    pub(crate) fn finish(self, limit: Duration) -> bool {
        self.0.recv_timeout(limit).is_ok()
    }
}

struct Writer<W> {
    output: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Looks at the queue at an interval rather than wait in it: a request that had to wake a sleeping thread would pay
    /// for a system call and a change of threads, which is more than all the rest of its log line costs.
    fn run(mut self, entries: &Receiver<Entry>) {
        loop {
            let ended = self.take_all(entries);
            self.flush();
            if ended {
                return;
            }
            std::thread::park_timeout(INTERVAL);
        }
    }

    /// Writes what is in the queue; whether nothing more can come.
    fn take_all(&mut self, entries: &Receiver<Entry>) -> bool {
        loop {
            match entries.try_recv() {
                Ok(entry) => self.append(&entry),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
            if self.block.len() >= BLOCK_BYTES {
                self.flush();
            }
        }
    }

    fn append(&mut self, entry: &Entry) {
        // Writing JSON to memory fails only for maps with odd keys, and a line has none.
        if serde_json::to_writer(&mut self.block, &Line::from(entry)).is_ok() {
            self.block.push(b'\n');
        }
    }

    fn flush(&mut self) {
        if self.block.is_empty() {
            return;
        }
        // Standard output closed or full: there is no better place to say so, and requests must go on.
        let written = self.output.write_all(&self.block).and_then(|()| self.output.flush());
        if let Err(error) = written {
            tracing::warn!(error = %error, bytes = self.block.len(), "access log block lost");
        }
        self.block.clear();
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    path: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    auth_tried: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    attempts: u32,
    bytes_in: u64,
    bytes_out: u64,
    protocol: &'a str,
    outcome: &'a str,
}

impl<'a> From<&'a Entry> for Line<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            time: rfc3339(entry.time_unix_ms),
            request_id: entry.request_id.to_str().unwrap_or(""),
            trace_id: entry.trace_id.map(|id| id.to_string()),
            method: entry.method.as_str(),
            host: entry.host.as_deref(),
            path: &entry.path,
            status: entry.status,
            code: entry.code,
            route: entry.route.as_deref(),
            policy: entry.policy.as_deref(),
            auth_tried: entry.auth_tried.iter().map(|scheme| &**scheme).collect(),
            shadow: entry
                .shadow
                .iter()
                .map(|(policy, code)| format!("{}:{code}", policy.as_deref().unwrap_or("-")))
                .collect(),
            to: entry.to.as_deref(),
            upstream: entry.upstream.as_deref(),
            client: entry.client,
            subject: entry.subject.as_deref(),
            duration_ms: milliseconds(entry.duration_us),
            upstream_ms: entry.upstream_us.map(milliseconds),
            attempts: entry.attempts,
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            protocol: entry.protocol,
            outcome: entry.outcome,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// `2026-11-24T06:32:41.123Z` (RFC 3339).
fn rfc3339(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    moment.unwrap_or_default().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn entry() -> Entry {
        Entry {
            time_unix_ms: 1_795_501_961_123,
            request_id: HeaderValue::from_static("r-1"),
            trace_id: None,
            method: Method::GET,
            path: "/api/v1/models".into(),
            host: Some("api.test".into()),
            status: 200,
            code: None,
            route: Some("api".into()),
            policy: None,
            auth_tried: Vec::new(),
            shadow: Vec::new(),
            to: Some("api".into()),
            upstream: Some("127.0.0.1:8000".into()),
            client: Some(IpAddr::from([127, 0, 0, 1])),
            subject: None,
            duration_us: 1500,
            upstream_us: Some(1000),
            attempts: 1,
            bytes_in: 0,
            bytes_out: 128,
            protocol: "h2",
            outcome: "proxied",
        }
    }

    #[test]
    fn a_line_is_one_json_object() {
        let output = Shared::default();
        let lost = IntCounter::new("lost", "Lost.").expect("valid name");
        let (log, writer) = AccessLog::start(output.clone(), lost.clone()).expect("a thread");
        log.push(entry());
        drop(log);
        assert!(writer.finish(Duration::from_secs(5)), "the writer ends by itself");
        let text = String::from_utf8(output.0.lock().expect("unpoisoned").clone()).expect("UTF-8");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one line of JSON");
        assert_eq!(line["time"], "2026-11-24T06:32:41.123Z");
        assert_eq!(line["path"], "/api/v1/models");
        assert_eq!(line["duration_ms"], 1.5);
        assert!(line.get("code").is_none(), "what is not there is left out");
        assert_eq!(lost.get(), 0);
    }
}
