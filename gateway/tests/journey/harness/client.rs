//! Client: an everyday HTTP client, and what every answer is held against.
//!
//! For: requests whose exact bytes do not matter. May touch: loopback sockets.
//! Promises: no proxy, no redirect, no retry, and nothing takes longer than `PATIENCE`.
//! Read next: `wire.rs` for requests whose bytes do matter, `tls.rs` for what happens below HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Version};
use serde_json::Value;
use testkit::install_crypto;
use testkit::wait::PATIENCE;

use super::pki::Authority;

/// An answer that has arrived completely.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The protocol it came by.
    pub version: Version,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// A field's value as text; empty when the field is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("header fields are text in these tests"))
    }

    /// Every value of a field, in their order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| value.to_str().expect("header fields are text in these tests")).collect()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the body is not JSON ({error}): {self:?}"))
    }

    /// Fails unless the answer has this status.
    pub fn expect_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless the gateway itself answered, with this status and code, in the form that it promises for every
    /// such answer. Returns the problem (RFC 9457).
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "expected {code}: {self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["request_id"].as_str().is_some_and(|id| !id.is_empty()), "no request id: {problem}");
        // RFC 9209: who answered, with which error type, and why.
        let proxy_status = self.header("proxy-status");
        assert!(
            proxy_status.contains("error=") && proxy_status.contains("details="),
            "Proxy-Status: {proxy_status:?}"
        );
        problem
    }
}

/// A client that comes from 127.0.0.1.
pub fn plain() -> reqwest::Client {
    finish(builder())
}

/// A client that comes from 127.0.0.`last`. The whole of 127.0.0.0/8 is this machine.
pub fn plain_from(last: u8) -> reqwest::Client {
    finish(builder().local_address(IpAddr::from(Ipv4Addr::new(127, 0, 0, last))))
}

/// A client that trusts only this authority, finds `name` at `address` and, with `http1_only`, does not offer HTTP/2.
pub fn secure(authority: &Authority, name: &str, address: SocketAddr, http1_only: bool) -> reqwest::Client {
    install_crypto();
    let root = reqwest::Certificate::from_pem(authority.certificate_pem().as_bytes()).expect("our own certificate");
    let secure = builder().tls_certs_only([root]).resolve(name, address);
    finish(if http1_only { secure.http1_only() } else { secure })
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
    Ok(Answer { status, version, headers, body: response.bytes().await? })
}

fn builder() -> reqwest::ClientBuilder {
    install_crypto();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.retry(reqwest::retry::never()).timeout(PATIENCE)
}

fn finish(builder: reqwest::ClientBuilder) -> reqwest::Client {
    builder.build().expect("a client without system certificates builds anywhere")
}
