//! HTTP client: how both programs ask others on their own account.
//!
//! For: whoever asks. May touch: nothing until it is used. Promises: exactly who is named is asked: no proxy of the
//! environment, no redirect to somewhere else; a connection that does not come about ends in time. How long an answer may take
//! is up to each request. Read next: `body.rs`.

use std::iter;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url, retry};

/// A client in the making.
pub fn builder(connect_timeout: Duration) -> ClientBuilder {
    Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(connect_timeout)
}

/// The same for one server, which asks once and leaves asking again to whoever uses it.
pub fn for_server(url: &Url, connect_timeout: Duration) -> ClientBuilder {
    let builder = builder(connect_timeout).retry(retry::never());
    if url.scheme() == "http" {
        // Without TLS no certificate is looked at, so a machine without any can still ask a server beside it.
        builder.tls_certs_only(iter::empty())
    } else {
        builder
    }
}
