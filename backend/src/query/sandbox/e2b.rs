//! E2B: a sandbox of its own for each piece of code.
//!
//! For: `sandbox.rs`, where `sandbox.protocol` is `e2b`: E2B's service, or one of your own that speaks like it. May touch:
//! the network. Promises: no code meets what other code has left, because a sandbox runs one piece and is ended then,
//! whoever is still waiting, also one that is there only after everybody has left; one that cannot be ended ends by itself
//! soon after.
//! Read next: `../sandbox.rs`.
//!
//! What is spoken: `POST {url}/sandboxes` and `DELETE {url}/sandboxes/{id}` with `X-API-Key`, and `POST /execute` of the code
//! interpreter in the sandbox, which answers with one JSON object a line.

use std::sync::Arc;
use std::time::Duration;

use common::body;
use common::http_client;
use common::secret::Secret;
use common::telemetry::with_causes;
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::time;

use super::{ANSWER_BYTES_MAX, BuildError, CONNECT_TIMEOUT, GRACE, Outcome, SandboxError, below};
use crate::config::{self, SANDBOX_ID};

/// How long a sandbox may take to be there.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long ending one may take; nobody waits for it.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of the code interpreter, which is part of a sandbox's name.
const PORT: u16 = 49_999;
/// The largest answer of the API, in bytes.
const MADE_BYTES_MAX: usize = 64 * 1024;
/// The longest id of a sandbox, in characters.
const ID_CHARS_MAX: usize = 64;
/// The longest domain of sandboxes, in characters.
const DOMAIN_CHARS_MAX: usize = 253;
/// The status of code that ended in an exception, as Python's own.
const FAILED: i64 = 1;

const API_KEY: &str = "X-API-Key";
const ACCESS_TOKEN: &str = "X-Access-Token";
const TRAFFIC_TOKEN: &str = "E2B-Traffic-Access-Token";

/// E2B.
pub(super) struct E2b {
    client: Client,
    sandboxes_url: Url,
    key: Option<Secret>,
    template: String,
    internet: bool,
    run_at: Option<String>,
    /// The domain of sandboxes, where the API names none.
    domain: String,
    timeout: Duration,
}

/// A sandbox that is wanted.
#[derive(Serialize)]
struct Wanted<'a> {
    #[serde(rename = "templateID")]
    template: &'a str,
    /// Seconds after which it ends by itself.
    timeout: u64,
    secure: bool,
    allow_internet_access: bool,
}

/// A sandbox that is there.
#[derive(Deserialize)]
struct Made {
    #[serde(rename = "sandboxID")]
    id: String,
    #[serde(default)]
    domain: Option<String>,
    #[serde(rename = "envdAccessToken", default)]
    access_token: Option<String>,
    #[serde(rename = "trafficAccessToken", default)]
    traffic_token: Option<String>,
}

/// What is to be run.
#[derive(Serialize)]
struct Run<'a> {
    code: &'a str,
    language: &'static str,
}

/// A line of the code interpreter.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Stdout {
        text: String,
    },
    Stderr {
        text: String,
    },
    /// Something to look at; the main one is the value of the last expression.
    Result {
        #[serde(default)]
        text: Option<String>,
        #[serde(default)]
        is_main_result: bool,
    },
    /// The exception that ended the code.
    Error {
        name: String,
        value: String,
        #[serde(default)]
        traceback: String,
    },
    #[serde(other)]
    Other,
}

/// A sandbox that ends when nobody needs it any more.
struct Lent {
    e2b: Arc<E2b>,
    made: Made,
}

impl E2b {
    pub(super) fn new(settings: &config::Sandbox) -> Result<Self, BuildError> {
        let host = settings.url.host_str().unwrap_or_default();
        let domain = host.strip_prefix("api.").unwrap_or(host).to_owned();
        let run_at = settings.run_at.clone();
        // One client asks both, and looks at certificates if either has one.
        let is_plain = run_at.as_ref().is_some_and(|run_at| run_at.starts_with("http:"));
        let client = if is_plain {
            http_client::for_server(&settings.url, CONNECT_TIMEOUT)
        } else {
            http_client::builder(CONNECT_TIMEOUT).retry(reqwest::retry::never())
        };
        Ok(Self {
            client: client.build().map_err(BuildError::Sandbox)?,
            sandboxes_url: below(settings.url.clone(), "sandboxes"),
            key: settings.key.clone(),
            template: settings.template.clone(),
            internet: settings.internet,
            run_at,
            domain,
            timeout: settings.timeout,
        })
    }

    /// Runs code in a sandbox that is made for it.
    pub(super) async fn execute(self: &Arc<Self>, code: &str) -> Result<Outcome, SandboxError> {
        // A task of its own: whoever leaves while a sandbox starts leaves one behind that somebody has to end.
        let lent = tokio::spawn(Self::lend(Arc::clone(self))).await.map_err(SandboxError::Start)??;
        let running = self.run(&lent.made, code);
        time::timeout(self.timeout.saturating_add(GRACE), running).await.unwrap_or(Err(SandboxError::Timeout))
    }

    async fn lend(e2b: Arc<Self>) -> Result<Lent, SandboxError> {
        let made = time::timeout(START_TIMEOUT, e2b.make()).await.unwrap_or(Err(SandboxError::Timeout))?;
        Ok(Lent { e2b, made })
    }

    async fn run(&self, made: &Made, code: &str) -> Result<Outcome, SandboxError> {
        let mut request = self.client.post(self.execute_url(made)?).json(&Run { code, language: "python" });
        for (name, token) in [(ACCESS_TOKEN, &made.access_token), (TRAFFIC_TOKEN, &made.traffic_token)] {
            if let Some(token) = token {
                request = request.header(name, token);
            }
        }
        let answer = body::read(send(request).await?, ANSWER_BYTES_MAX).await?;
        read_lines(&answer)
    }

    async fn make(&self) -> Result<Made, SandboxError> {
        let life = self.timeout.saturating_add(GRACE).saturating_add(START_TIMEOUT);
        let wanted = Wanted {
            template: &self.template,
            timeout: life.as_secs(),
            secure: true,
            allow_internet_access: self.internet,
        };
        let request = self.keyed(self.client.post(self.sandboxes_url.clone())).json(&wanted);
        let answer = body::read(send(request).await?, MADE_BYTES_MAX).await?;
        let made: Made = serde_json::from_slice(&answer).map_err(SandboxError::Malformed)?;
        if may_be_id(&made.id) { Ok(made) } else { Err(SandboxError::Nowhere) }
    }

    fn keyed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.key {
            Some(key) => request.header(API_KEY, key.expose()),
            None => request,
        }
    }

    fn execute_url(&self, made: &Made) -> Result<Url, SandboxError> {
        let base = match &self.run_at {
            Some(run_at) => run_at.replace(SANDBOX_ID, &made.id),
            None if made.domain.as_deref().is_none_or(may_be_domain) => {
                format!("https://{PORT}-{}.{}", made.id, made.domain.as_deref().unwrap_or(&self.domain))
            }
            None => return Err(SandboxError::Nowhere),
        };
        let base: Url = base.parse().map_err(|_| SandboxError::Nowhere)?;
        Ok(below(base, "execute"))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let url = below(self.e2b.sandboxes_url.clone(), &self.made.id);
        let request = self.e2b.keyed(self.e2b.client.delete(url)).timeout(END_TIMEOUT);
        runtime.spawn(async move {
            if let Err(error) = send(request).await {
                tracing::warn!(error = with_causes(&error), "a sandbox could not be ended; it ends by itself");
            }
        });
    }
}

/// Whether this can be the id of a sandbox: it becomes part of addresses.
fn may_be_id(text: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether this can be a domain, with a port or without one. An address must not become another one by it.
fn may_be_domain(text: &str) -> bool {
    (1..=DOMAIN_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':'))
}

/// The answer, if it is a good one.
async fn send(request: RequestBuilder) -> Result<Response, SandboxError> {
    let answer = request.send().await.map_err(|error| SandboxError::Unreachable(error.without_url()))?;
    if answer.status().is_success() { Ok(answer) } else { Err(SandboxError::Status(answer.status().as_u16())) }
}

/// What the lines tell together. As in Python's own interpreter, the value of the last expression follows the output.
fn read_lines(answer: &[u8]) -> Result<Outcome, SandboxError> {
    let mut outcome = Outcome { exit_code: Some(0), ..Outcome::default() };
    for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let line: Line = serde_json::from_slice(line).map_err(SandboxError::Malformed)?;
        match line {
            Line::Stdout { text } => outcome.stdout.push_str(&text),
            Line::Stderr { text } => outcome.stderr.push_str(&text),
            Line::Result { text: Some(text), is_main_result: true } => {
                outcome.stdout.push_str(&text);
                outcome.stdout.push('\n');
            }
            Line::Error { name, value, traceback } => {
                outcome.exit_code = Some(FAILED);
                let told = if traceback.is_empty() { format!("{name}: {value}") } else { traceback };
                outcome.stderr.push_str(&told);
            }
            Line::Result { .. } | Line::Other => {}
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<(String, String, Option<i64>)> {
        let outcome = read_lines(lines.join("\n").as_bytes()).ok()?;
        Some((outcome.stdout, outcome.stderr, outcome.exit_code))
    }

    #[test]
    fn what_becomes_part_of_an_address_makes_no_other_one_of_it() {
        assert!(may_be_id("box-1") && may_be_domain("e2b.app") && may_be_domain("localhost:3000"));
        for wrong in ["", "a/b", "a@b", "a?b", "a#b", "a\\b", "a b", "ä", "a%2f"] {
            assert!(!may_be_id(wrong) && !may_be_domain(wrong), "{wrong:?}");
        }
        assert!(!may_be_id(&"x".repeat(ID_CHARS_MAX + 1)) && !may_be_domain(&"x".repeat(DOMAIN_CHARS_MAX + 1)));
    }

    #[test]
    fn lines_make_one_outcome() {
        let told = read(&[
            r#"{"type":"stdout","text":"a\n","timestamp":1}"#,
            r#"{"type":"stderr","text":"b","timestamp":2}"#,
            r#"{"type":"result","text":"a plot","png":"...","is_main_result":false}"#,
            r#"{"type":"result","text":"42","is_main_result":true}"#,
            r#"{"type":"number_of_executions","execution_count":1}"#,
            "",
            r#"{"type":"end_of_execution"}"#,
            "",
        ]);
        assert_eq!(told, Some(("a\n42\n".to_owned(), "b".to_owned(), Some(0))));
        let raised = read(&[r#"{"type":"error","name":"ValueError","value":"no","traceback":""}"#]);
        assert_eq!(raised, Some((String::new(), "ValueError: no".to_owned(), Some(FAILED))));
        assert_eq!(read(&["nonsense"]), None);
        assert_eq!(read(&[r#"{"type":"stdout"}"#]), None);
    }
}
