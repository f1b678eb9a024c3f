//! Gateway: the real program on free ports.
//!
//! For: every journey test. May touch: the gateway's binary, a temporary folder.
//! Promises: `start` returns once the gateway listens. Read next: `settings.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::install_crypto;
use testkit::process::{Ended, Program};
use testkit::wait::{PATIENCE, until};

use super::client::{self, Answer};

/// A running gateway.
pub struct Gateway {
    program: Program,
    admin: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    /// Holds the settings; removed with the gateway.
    folder: TempDir,
}

impl Gateway {
    /// Starts the gateway with these settings and waits until the named listeners listen.
    pub async fn start(settings: &str, listeners: &[&str]) -> Self {
        Self::start_as(settings, listeners, |_| {}).await
    }

    /// The same, by a command that is changed before.
    pub async fn start_as(settings: &str, listeners: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        install_crypto();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = write_settings(folder.path(), settings);
        let mut command = command("run", &file);
        change(&mut command);
        let mut program = Program::start("gateway", command, "");
        let admin = program.listening("admin").await;
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            bound.push(((*listener).to_owned(), program.listening(listener).await));
        }
        Self { program, admin, listeners: bound, folder }
    }

    /// Starts a gateway whose only listener is plain HTTP.
    pub async fn plain(settings: &str) -> Self {
        Self::start(settings, &["http"]).await
    }

    /// Writes other settings where it has read its own.
    pub fn rewrite(&self, settings: &str) {
        write_settings(self.folder.path(), settings);
    }

    /// Asks it by the admin listener to take its settings in again.
    pub async fn reload(&self) -> Answer {
        client::send(client::plain().post(format!("http://{}/reload", self.admin))).await
    }

    /// Waits until a listener that came by a reload listens.
    pub async fn opened(&mut self, listener: &str) -> SocketAddr {
        self.program.listening(listener).await
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Where the admin listener listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        found.unwrap_or_else(|| panic!("the test did not ask for a listener {listener:?}")).1
    }

    /// The address of a path on the plain listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address("http"))
    }

    /// Asks the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        client::send(client::plain().get(format!("http://{}{path}", self.admin))).await
    }

    /// Its metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        let answer = self.admin("/metrics").await;
        String::from_utf8_lossy(&answer.expect_status(200).body).into_owned()
    }

    /// The value of a metric, by its whole name with labels; `None` when it is not shown.
    pub async fn metric(&self, name: &str) -> Option<String> {
        let metrics = self.metrics().await;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
    }

    /// Waits until the metrics have this line.
    pub async fn until_metrics_say(&self, line: &str) {
        until(&format!("the metrics say {line}"), PATIENCE, async || {
            self.metrics().await.lines().any(|told| told == line).then_some(())
        })
        .await;
    }

    /// Tells the admin listener something, in JSON.
    pub async fn admin_post(&self, path: &str, body: &Value) -> Answer {
        client::send(client::plain().post(format!("http://{}{path}", self.admin)).json(body)).await
    }

    /// The access log's line that `wanted` accepts, as soon as it is written.
    pub async fn access_log(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.program.stdout_entry(&format!("the access log has {what}"), wanted).await
    }

    /// Every line of the access log so far.
    pub fn access_log_so_far(&self) -> Vec<Value> {
        self.program.stdout_entries()
    }

    /// Memory of it that is resident, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.program.resident_kib()
    }

    /// What it has said so far in its own log.
    pub fn said(&self) -> String {
        self.program.said()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.program.terminate();
    }

    /// Waits for it to end by itself.
    pub async fn ended(self, limit: Duration) -> Ended {
        self.program.ended(limit).await
    }
}

/// The gateway's binary.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gateway"))
}

/// A command of the gateway on a file of settings.
pub fn command(name: &str, file: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg(name).arg("-c").arg(file);
    command
}

/// Makes a key by the gateway's own command; the key and its entry.
pub fn new_key(arguments: &[&str]) -> (String, String) {
    let made = Command::new(binary()).args(["key", "new"]).args(arguments).output().expect("the gateway runs");
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stderr).expect("text");
    let key = said.trim().rsplit(' ').next().expect("a key").to_owned();
    (key, String::from_utf8(made.stdout).expect("text"))
}

/// Writes settings to `gateway.yaml` in a folder.
pub fn write_settings(folder: &Path, settings: &str) -> PathBuf {
    let file = folder.join("gateway.yaml");
    std::fs::write(&file, settings).expect("a temporary folder can be written");
    file
}
