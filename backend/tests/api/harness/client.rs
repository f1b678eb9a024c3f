//! Client: an everyday HTTP client, and what every answer is held against.
//!
//! For: requests whose exact bytes do not matter. May touch: loopback sockets.
//! Promises: no proxy, no redirect, no retry, and nothing takes longer than `PATIENCE`.
//! Read next: `backend.rs`.

use http::{HeaderMap, Version};
use serde_json::Value;
use testkit::install_crypto;
use testkit::wait::PATIENCE;

/// An answer that has arrived completely.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The protocol it came by.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body as text.
    pub body: String,
}

impl Answer {
    /// A field's value as text; empty when the field is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("header fields are text in these tests"))
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("the body is not JSON ({error}): {self:?}"))
    }

    /// A member of the body that is text.
    pub fn text(&self, member: &str) -> String {
        let value = self.json()[member].as_str().map(str::to_owned);
        value.unwrap_or_else(|| panic!("no text {member:?} in {self:?}"))
    }

    /// Text somewhere within the body, by its JSON pointer (RFC 6901).
    pub fn text_at(&self, pointer: &str) -> String {
        let value = self.json().pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        value.unwrap_or_else(|| panic!("no text at {pointer:?} in {self:?}"))
    }

    /// The items of a page of a list.
    pub fn items(&self) -> Vec<Value> {
        let items = self.json()["items"].as_array().cloned();
        items.unwrap_or_else(|| panic!("no list in {self:?}"))
    }

    /// Where the next page of a list begins; `None` on the last one.
    pub fn next_cursor(&self) -> Option<String> {
        self.json()["next_cursor"].as_str().map(str::to_owned)
    }

    /// Fails unless the answer has this status.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless this is a refusal with this status and code, in the form that is promised for every refusal.
    /// Returns the problem (RFC 9457).
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "expected {code}: {self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:capibara6:error:{code}"), "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "no title: {problem}");
        let request_id = self.header("x-request-id");
        assert!(!request_id.is_empty(), "no X-Request-Id: {self:?}");
        assert_eq!(problem["request_id"], request_id, "one id for one request: {self:?}");
        if status == 401 {
            // RFC 9110 §15.5.2: a 401 must say how to do better.
            assert!(self.header("www-authenticate").starts_with("Bearer"), "no challenge: {self:?}");
        }
        if matches!(status, 429 | 503) {
            let seconds = self.header("retry-after").parse::<u64>();
            assert!(seconds.is_ok_and(|seconds| seconds >= 1), "no Retry-After in seconds: {self:?}");
        }
        problem
    }

    /// Fails unless this is a refusal of the input that speaks of `word`.
    #[track_caller]
    pub fn expect_input_invalid(&self, word: &str) {
        let problem = self.expect_problem(400, "input_invalid");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(word), "the detail does not speak of {word:?}: {problem}");
    }
}

/// A client that speaks HTTP/1.1.
pub fn plain() -> reqwest::Client {
    finish(builder().http1_only())
}

/// A client that speaks HTTP/2 from the first byte, without TLS (RFC 9113 §3.3).
pub fn plain_http2() -> reqwest::Client {
    finish(builder().http2_prior_knowledge())
}

/// Sends a request and waits for the whole answer.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    try_send(request).await.unwrap_or_else(|error| panic!("no complete answer: {error:?}"))
}

/// Sends a request and waits for the whole answer, or for what goes wrong.
pub async fn try_send(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, version) = (response.status().as_u16(), response.version());
    let headers = response.headers().clone();
    let body = response.bytes().await?;
    Ok(Answer { status, version, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn builder() -> reqwest::ClientBuilder {
    install_crypto();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    // Nothing here speaks TLS, so the system's certificates need not be there, nor be read.
    builder.retry(reqwest::retry::never()).timeout(PATIENCE).tls_certs_only([])
}

fn finish(builder: reqwest::ClientBuilder) -> reqwest::Client {
    builder.build().expect("a client without system certificates builds anywhere")
}
