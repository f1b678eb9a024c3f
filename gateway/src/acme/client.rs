//! Client: how an authority is asked.
//!
//! For: `order.rs`. May touch: the network. Promises: HTTPS alone, no proxy, no redirect; an answer has a deadline and a
//! largest size. Read next: `order.rs`.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use common::body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::Certificate;

use crate::base::http_client;
use crate::config::checked::Acme;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The size of an answer: a chain of certificates has a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A client for one authority.
#[derive(Clone, Debug)]
pub(super) struct Client(reqwest::Client);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{path}")]
    Authorities { path: String, source: std::io::Error },
    #[error("{0} holds no certificate")]
    NoAuthority(String),
    #[error("HTTP client")]
    Build(#[from] reqwest::Error),
}

impl Client {
    /// A client that trusts whom the settings say.
    ///
    /// # Errors
    /// When the file of authorities cannot be read or holds none.
    pub(super) async fn new(settings: &Acme) -> Result<Self, ClientError> {
        let mut builder = http_client::builder().https_only(true);
        if let Some(file) = &settings.ca {
            let read = tokio::fs::read(&file.value).await;
            let path = file.value.display().to_string();
            match read {
                Ok(pem) => builder = builder.tls_certs_only(authorities(path, &pem)?),
                Err(source) => return Err(ClientError::Authorities { path, source }),
            }
        }
        Ok(Self(builder.build()?))
    }
}

/// Whom a file names. With nobody to trust, each handshake would fail, and nothing would say why.
fn authorities(path: String, pem: &[u8]) -> Result<Vec<Certificate>, ClientError> {
    let authorities = Certificate::from_pem_bundle(pem)?;
    if authorities.is_empty() { Err(ClientError::NoAuthority(path)) } else { Ok(authorities) }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(ask(self.0.clone(), request))
    }
}

async fn ask(client: reqwest::Client, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
    let (head, sent) = request.into_parts();
    // It is there already: reading it cannot fail.
    let Ok(sent) = sent.collect().await;
    let sent = sent.to_bytes();
    let mut asked = client.request(head.method, head.uri.to_string()).headers(head.headers).timeout(ANSWER_TIMEOUT);
    if !sent.is_empty() {
        asked = asked.body(sent);
    }
    let answer = asked.send().await.map_err(failed)?;
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    let read = body::read(answer, ANSWER_BYTES_MAX).await.map_err(failed)?;
    let (parts, ()) = response.into_parts();
    Ok(BytesResponse { parts, body: Box::new(Bytes::from(read)) })
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_names_nobody_is_an_error_of_its_own() {
        for empty in ["", "not PEM"] {
            let error = authorities("ca.pem".into(), empty.as_bytes()).expect_err("nobody to trust");
            assert_eq!(error.to_string(), "ca.pem holds no certificate");
        }
    }
}
