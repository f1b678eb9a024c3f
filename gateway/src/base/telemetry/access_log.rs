//! The access log: one line of JSON a request, written by a thread of its own.
//!
//! For: handing a finished request over in a few hundred nanoseconds. May touch: standard output, on its own thread.
//! Promises: a blocked pipe never blocks a request; the queue is bounded; what finds it full or cannot be written is
//! counted. Credentials are not in a line, and the query of a target is not either (it may carry some).

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
        let counted = lost.clone();
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            Writer::new(output, counted).run(&entries);
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
    /// Lines in the block.
    lines: u64,
    lost: IntCounter,
    /// Whether the last block could not be written.
    failing: bool,
}

impl<W: Write> Writer<W> {
    fn new(output: W, lost: IntCounter) -> Self {
        Self { output, block: Vec::with_capacity(BLOCK_BYTES + 4096), lines: 0, lost, failing: false }
    }

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
        write_line(&mut self.block, entry);
        self.lines += 1;
    }

    fn flush(&mut self) {
        if self.block.is_empty() {
            return;
        }
        match self.output.write_all(&self.block).and_then(|()| self.output.flush()) {
            Ok(()) => self.failing = false,
            // Standard output closed or full: requests must go on. Part of the block may be written all the same.
            Err(error) => {
                self.lost.inc_by(self.lines);
                // Said once, not fifty times a second.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = %error, "the access log cannot be written; its lines are counted as lost");
                }
            }
        }
        self.block.clear();
        self.lines = 0;
    }
}

/// One line under way, a JSON object. Names of members are plain words, and not looked through for what must be escaped.
struct Line<'b> {
    block: &'b mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
}

impl<'b> Line<'b> {
    fn begin(block: &'b mut Vec<u8>) -> Self {
        Self { block, before: b'{' }
    }

    fn put(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.block.extend_from_slice(&[self.before, b'"']);
        self.block.extend_from_slice(name.as_bytes());
        self.block.extend_from_slice(b"\":");
        self.before = b',';
        // Writing JSON to memory fails only for maps with odd keys, and a line has none.
        let _ = serde_json::to_writer(&mut *self.block, value);
    }

    /// What is not there is left out.
    fn put_some(&mut self, name: &str, value: Option<&(impl Serialize + ?Sized)>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn end(self) {
        self.block.extend_from_slice(b"}\n");
    }
}

/// Writes a line of a request.
fn write_line(block: &mut Vec<u8>, entry: &Entry) {
    let mut line = Line::begin(block);
    line.put("time", &rfc3339(entry.time_unix_ms));
    line.put("request_id", entry.request_id.to_str().unwrap_or(""));
    line.put_some("trace_id", entry.trace_id.map(|id| id.to_string()).as_ref());
    line.put("method", entry.method.as_str());
    line.put_some("host", entry.host.as_deref());
    line.put("path", &*entry.path);
    line.put("status", &entry.status);
    line.put_some("code", entry.code);
    line.put_some("route", entry.route.as_deref());
    line.put_some("policy", entry.policy.as_deref());
    line.put_some("auth_tried", Some(&entry.auth_tried).filter(|schemes| !schemes.is_empty()));
    line.put_some("shadow", Some(&shadow(entry)).filter(|shadowed| !shadowed.is_empty()));
    line.put_some("to", entry.to.as_deref());
    line.put_some("upstream", entry.upstream.as_deref());
    line.put_some("client", entry.client.as_ref());
    line.put_some("subject", entry.subject.as_deref());
    line.put("duration_ms", &milliseconds(entry.duration_us));
    line.put_some("upstream_ms", entry.upstream_us.map(milliseconds).as_ref());
    line.put("attempts", &entry.attempts);
    line.put("bytes_in", &entry.bytes_in);
    line.put("bytes_out", &entry.bytes_out);
    line.put("protocol", entry.protocol);
    line.put("outcome", entry.outcome);
    line.end();
}

/// `policy:code` of each.
fn shadow(entry: &Entry) -> Vec<String> {
    entry.shadow.iter().map(|(policy, code)| format!("{}:{code}", policy.as_deref().unwrap_or("-"))).collect()
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

    #[test]
    fn members_stand_in_their_order_and_values_are_escaped() {
        let mut block = Vec::new();
        let more = Entry {
            path: "/a\"b".into(),
            auth_tried: vec!["keys".into(), "tokens".into()],
            shadow: vec![(Some("per_ip".into()), "rate_limited"), (None, "token_missing")],
            ..entry()
        };
        write_line(&mut block, &more);
        assert_eq!(
            String::from_utf8(block).expect("UTF-8"),
            concat!(
                r#"{"time":"2026-11-24T06:32:41.123Z","request_id":"r-1","method":"GET","host":"api.test","#,
                r#""path":"/a\"b","status":200,"route":"api","auth_tried":["keys","tokens"],"#,
                r#""shadow":["per_ip:rate_limited","-:token_missing"],"to":"api","upstream":"127.0.0.1:8000","#,
                r#""client":"127.0.0.1","duration_ms":1.5,"upstream_ms":1.0,"attempts":1,"bytes_in":0,"#,
                r#""bytes_out":128,"protocol":"h2","outcome":"proxied"}"#,
                "\n"
            )
        );
    }

    /// Takes nothing until it is let go.
    struct Blocked {
        gate: Receiver<()>,
        lines: Arc<Mutex<u64>>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error says that the test has let go of the other end, for good.
            let _ = self.gate.recv();
            let lines = String::from_utf8_lossy(bytes).matches('\n').count();
            *self.lines.lock().expect("unpoisoned") += lines as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn behind_a_blocked_pipe_nobody_waits_and_what_finds_no_place_is_counted() {
        const PUSHED: u64 = 3 * QUEUE_LINES_MAX as u64;
        let (let_go, gate) = sync_channel(0);
        let lines = Arc::new(Mutex::new(0));
        let lost = IntCounter::new("lost", "Lost.").expect("valid name");
        let output = Blocked { gate, lines: Arc::clone(&lines) };
        let (log, writer) = AccessLog::start(output, lost.clone()).expect("a thread");
        // Would hang here if a full queue were waited for.
        for _ in 0..PUSHED {
            log.push(entry());
        }
        assert!(lost.get() > 0, "three queues do not fit into one");
        drop((log, let_go));
        assert!(writer.finish(Duration::from_secs(30)), "the writer ends once it may write");
        assert_eq!(*lines.lock().expect("unpoisoned") + lost.get(), PUSHED, "each line is written or counted");
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lost = IntCounter::new("lost", "Lost.").expect("valid name");
        let (log, writer) = AccessLog::start(Full, lost.clone()).expect("a thread");
        for _ in 0..10 {
            log.push(entry());
        }
        drop(log);
        assert!(writer.finish(Duration::from_secs(5)), "the writer ends by itself");
        assert_eq!(lost.get(), 10);
    }
}
