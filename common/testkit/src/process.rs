//! Process: a program under test, with everything it says.
//!
//! For: gateway and backend. May touch: processes it started, by their own id only.
//! Promises: the program ends when the value is dropped; its output is kept, bounded, for failure messages.
//! Read next: `wait.rs`.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::wait::{PATIENCE, until};

/// Lines kept of each stream; the oldest go first. A test under load writes a few thousand access log lines.
const LINES_MAX: usize = 20_000;

/// Bytes kept of one line, so that a program gone wild cannot fill the memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A running program.
pub struct Program {
    name: &'static str,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// The lines of one stream, filled by a thread that ends with the stream.
struct Lines {
    kept: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

/// Sends a signal by its name; whether it was taken. The standard library has no call for it, the shell has.
#[must_use]
pub fn signal(id: u32, name: &str) -> bool {
    let sent = Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &id.to_string()]).status();
    sent.is_ok_and(|status| status.success())
}

impl Program {
    /// Starts a program. `input` is written to its standard input, which is then closed.
    pub fn start(name: &'static str, mut command: Command, input: &str) -> Self {
        // What the person who runs the tests has set for `make run` must not reach the program under test.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("CAPIBARA6_") {
                command.env_remove(variable);
            }
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut stdin = child.stdin.take().expect("standard input is piped");
        if let Err(error) = stdin.write_all(input.as_bytes()) {
            // A program that ends at once, as one that refuses its settings does, need not read what it is told.
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{name} does not read its input: {error}");
        }
        let stdout = Lines::of(child.stdout.take().expect("standard output is piped"));
        let stderr = Lines::of(child.stderr.take().expect("standard error is piped"));
        Self { name, child, stdout, stderr }
    }

    /// The address a listener got, as soon as the program's log tells it.
    pub async fn listening(&mut self, listener: &str) -> SocketAddr {
        let name = self.name;
        let what = format!("{name} says that its listener {listener:?} is listening");
        let start = std::time::Instant::now();
        loop {
            let found = self.stderr.find(|line| {
                let entry: Value = serde_json::from_str(line).ok()?;
                let told = entry["message"] == "listening" && entry["listener"] == listener;
                if told { entry["address"].as_str()?.parse().ok() } else { None }
            });
            if let Some(address) = found {
                return address;
            }
            if let Some(status) = self.child.try_wait().expect("the program can be asked for its status") {
                panic!("{name} ended with {status} before it was listening. It said:\n{}", self.stderr.text());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} in vain: {what}. It said:\n{}",
                self.stderr.text()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The first line of standard output, read as JSON, that `wanted` accepts.
    pub async fn stdout_entry(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, PATIENCE, async || {
            self.stdout.find(|line| serde_json::from_str(line).ok().filter(|entry| wanted(entry)))
        })
        .await
    }

    /// Every line of standard output that is JSON.
    pub fn stdout_entries(&self) -> Vec<Value> {
        let kept = self.stdout.kept.lock().expect("no reader panicked");
        kept.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Memory of it that is resident, in KiB (Linux).
    pub fn resident_kib(&self) -> u64 {
        let file = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(file).expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// What it has said so far on standard error.
    pub fn said(&self) -> String {
        self.stderr.text()
    }

    /// Asks it to end, as an orchestrator does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.child.id(), name), "{} takes no SIG{name}: it has ended", self.name);
    }

    /// Waits for it to end by itself.
    pub async fn ended(mut self, limit: Duration) -> Ended {
        let what = format!("{} ends by itself", self.name);
        let start = std::time::Instant::now();
        let status = loop {
            match self.child.try_wait().expect("the program can be asked for its status") {
                Some(status) => break status,
                None if start.elapsed() < limit => tokio::time::sleep(Duration::from_millis(5)).await,
                None => panic!("waited {limit:?} in vain: {what}. It said:\n{}", self.stderr.text()),
            }
        };
        // The pipes may still hold the last lines.
        until("the program's output ends with it", PATIENCE, async || {
            (self.stdout.reader.is_finished() && self.stderr.reader.is_finished()).then_some(())
        })
        .await;
        Ended { status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a program that has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.stderr.text());
        }
    }
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let filled = Arc::clone(&kept);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            // The end of the stream, and the error that a killed program leaves, both end the thread.
            while stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut kept = filled.lock().expect("no other holder panics");
                if kept.len() == LINES_MAX {
                    kept.pop_front();
                }
                kept.push_back(text);
                line.clear();
            }
        });
        Self { kept, reader }
    }

    fn find<T>(&self, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.kept.lock().expect("no reader panicked").iter().find_map(|line| look(line))
    }

    fn text(&self) -> String {
        let kept = self.kept.lock().expect("no reader panicked");
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
