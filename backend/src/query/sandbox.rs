//! Sandbox: code of an answer, run apart from everything.
//!
//! For: requests that say `execute: true`, where a sandbox is configured. May touch: the network.
//! Promises: this program runs no code itself; code, waits and outputs are bounded; whatever goes wrong is told in the
//! result and never fails the answer. Read next: `sandbox/e2b.rs` for E2B's protocol, then `mod.rs`.
//!
//! The plain contract, which a small service before any sandbox can keep: `POST {url}/execute`, with a bearer key where
//! one is configured, and a JSON body with `code` (text), `language` (`python`) and `timeout_ms` (a whole number). The answer
//! is 200 with a JSON object: `stdout` and `stderr` (texts), `exit_code` (a whole number, or null where the code was ended),
//! and `error` (null, or one sentence on why it did not run to its end). Any other status means that it did not run.

mod e2b;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::body::{self, BodyError};
use common::http_client;
use common::secret::Secret;
use common::telemetry::with_causes;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

use super::{BuildError, Executed};
use crate::config::{self, SandboxProtocol};
use e2b::E2b;

/// The longest code that is run, in bytes.
const CODE_BYTES_MAX: usize = 64 * 1024;
/// The largest answer of the sandbox, in bytes: both outputs, written as JSON.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest sentence about what went wrong, in bytes.
const ERROR_BYTES_MAX: usize = 1024;
/// What the sandbox has to say how it went, after the code's own time is up.
const GRACE: Duration = Duration::from_secs(2);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What fences code in Markdown.
const FENCE: &str = "```";
/// The words behind a fence that mean Python.
const PYTHON: [&str; 3] = ["python", "python3", "py"];

/// A service that runs code.
pub(super) struct Sandbox {
    service: Service,
    /// How long it may take to say how the code went.
    patience: Duration,
    output_bytes_max: usize,
}

/// What it understands.
enum Service {
    Plain(Plain),
    E2b(Arc<E2b>),
}

/// A service that keeps the plain contract.
struct Plain {
    client: Client,
    url: Url,
    key: Option<Secret>,
    timeout: Duration,
}

#[derive(Serialize)]
struct Request<'a> {
    code: &'a str,
    language: &'static str,
    timeout_ms: u64,
}

/// How the code went.
#[derive(Default, Deserialize)]
struct Outcome {
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    error: Option<String>,
}

/// Why code did not run. The texts are for clients; causes are for the log.
#[derive(Debug, thiserror::Error)]
enum SandboxError {
    #[error("the sandbox cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the sandbox does not answer in time")]
    Timeout,
    #[error("the sandbox answered {0}")]
    Status(u16),
    #[error("the answer of the sandbox is too large")]
    TooLarge,
    #[error("the answer of the sandbox is malformed")]
    Malformed(#[source] serde_json::Error),
    #[error("the sandbox has no address")]
    Nowhere,
    #[error("the sandbox could not be started")]
    Start(#[source] JoinError),
}

impl Sandbox {
    pub(super) fn new(settings: &config::Sandbox) -> Result<Self, BuildError> {
        let (service, start) = match settings.protocol {
            SandboxProtocol::Plain => (Service::Plain(Plain::new(settings)?), Duration::ZERO),
            SandboxProtocol::E2b => (Service::E2b(Arc::new(E2b::new(settings)?)), e2b::START_TIMEOUT),
        };
        let patience = settings.timeout.saturating_add(GRACE).saturating_add(start);
        Ok(Self { service, patience, output_bytes_max: settings.output_bytes_max })
    }

    /// Runs the first fenced Python block of an answer.
    pub(super) async fn run(&self, answer: &str) -> Executed {
        let started = Instant::now();
        let refused = |why: &str| Executed { error: Some(why.to_owned()), ..Executed::default() };
        let Some(code) = python_block(answer) else {
            return refused("the answer holds no fenced python block");
        };
        if code.len() > CODE_BYTES_MAX {
            return refused("the code is too long");
        }
        let outcome = match tokio::time::timeout(self.patience, self.execute(&code)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SandboxError::Timeout),
        };
        match outcome {
            Ok(outcome) => self.shape(outcome, started.elapsed()),
            Err(error) => {
                // What was answered may be part of it, and that may be as long as the code likes.
                tracing::error!(error = cut(with_causes(&error), ERROR_BYTES_MAX), "code could not be run");
                Executed { took: started.elapsed(), ..refused(&error.to_string()) }
            }
        }
    }

    async fn execute(&self, code: &str) -> Result<Outcome, SandboxError> {
        match &self.service {
            Service::Plain(plain) => plain.execute(code).await,
            Service::E2b(e2b) => e2b.execute(code).await,
        }
    }

    fn shape(&self, outcome: Outcome, took: Duration) -> Executed {
        let bytes_max = self.output_bytes_max;
        Executed {
            executed: outcome.exit_code.is_some() || outcome.error.is_none(),
            stdout: cut(outcome.stdout, bytes_max),
            stderr: cut(outcome.stderr, bytes_max),
            exit_code: outcome.exit_code,
            error: outcome.error.map(|error| cut(error, ERROR_BYTES_MAX)),
            took,
        }
    }
}

impl Plain {
    fn new(settings: &config::Sandbox) -> Result<Self, BuildError> {
        let client = http_client::for_server(&settings.url, CONNECT_TIMEOUT).build();
        Ok(Self {
            client: client.map_err(BuildError::Sandbox)?,
            url: below(settings.url.clone(), "execute"),
            key: settings.key.clone(),
            timeout: settings.timeout,
        })
    }

    async fn execute(&self, code: &str) -> Result<Outcome, SandboxError> {
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut builder = self.client.post(self.url.clone()).json(&Request { code, language: "python", timeout_ms });
        if let Some(key) = &self.key {
            builder = builder.bearer_auth(key.expose());
        }
        let response = builder.send().await.map_err(|error| SandboxError::Unreachable(error.without_url()))?;
        if response.status() != StatusCode::OK {
            return Err(SandboxError::Status(response.status().as_u16()));
        }
        let answer = body::read(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&answer).map_err(SandboxError::Malformed)
    }
}

/// The address of what is below a base address.
fn below(mut base: Url, name: &str) -> Url {
    let path = format!("{}/{name}", base.path().trim_end_matches('/'));
    base.set_path(&path);
    base
}

impl From<BodyError> for SandboxError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken(error) => Self::Unreachable(error.without_url()),
            BodyError::TooLarge { .. } => Self::TooLarge,
        }
    }
}

/// The text up to so many bytes, whole characters only.
fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// The code between the first fence that says Python and the fence after it (`CommonMark` §4.5, without longer fences).
fn python_block(answer: &str) -> Option<String> {
    let mut lines = answer.lines();
    loop {
        let info = lines.find_map(|line| line.trim_start().strip_prefix(FENCE))?;
        let language = info.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let mut code = String::new();
        loop {
            // A block without an end may be cut short: it is not run.
            let line = lines.next()?;
            if line.trim() == FENCE {
                break;
            }
            code.push_str(line);
            code.push('\n');
        }
        if PYTHON.contains(&language.as_str()) {
            return Some(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_python_block_is_found() {
        let cases: &[(&str, Option<&str>)] = &[
            ("no code", None),
            ("```python\nprint(1)\n```", Some("print(1)\n")),
            ("Text.\n\n```Python title=\"x\"\nprint(1)\n\nprint(2)\n```\nMore.", Some("print(1)\n\nprint(2)\n")),
            ("```rust\nfn main() {}\n```\n```py\nprint(2)\n```", Some("print(2)\n")),
            ("```\nprint(1)\n```", None),
            ("```python\nprint(1)\n", None),
            ("```\n```python\n```\n```python\nprint(3)\n```", Some("print(3)\n")),
            ("  ```python3\n  print(1)\n  ```", Some("  print(1)\n")),
            ("```python\n```", Some("")),
            ("```pythonic\nprint(1)\n```", None),
            ("`python` and ``` in a line", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(python_block(answer).as_deref(), *expected, "{answer:?}");
        }
    }

    #[test]
    fn what_is_below_an_address_is_found() {
        for (base, expected) in [
            ("http://127.0.0.1:9100", "http://127.0.0.1:9100/execute"),
            ("http://127.0.0.1:9100/box/", "http://127.0.0.1:9100/box/execute"),
        ] {
            assert_eq!(below(base.parse().expect("an address"), "execute").as_str(), expected);
        }
    }

    #[test]
    fn outputs_are_cut_between_characters() {
        assert_eq!(cut("äöü".into(), 3), "ä");
        assert_eq!(cut("äöü".into(), 4), "äö");
        assert_eq!(cut("abc".into(), 100), "abc");
    }
}
