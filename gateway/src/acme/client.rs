//! Client: how an authority is asked.
//!
//! For: `order.rs`. May touch: the network. Promises: HTTPS alone, no proxy, no redirect; an answer has a deadline and a
//! largest size. Read next: `order.rs`.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

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
            let path = || file.value.display().to_string();
            let pem = read.map_err(|source| ClientError::Authorities { path: path(), source })?;
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        Ok(Self(builder.build()?))
    }
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
    let (head, body) = request.into_parts();
    // It is there already: reading it cannot fail.
    let Ok(body) = body.collect().await;
    let body = body.to_bytes();
    let mut asked = client.request(head.method, head.uri.to_string()).headers(head.headers).timeout(ANSWER_TIMEOUT);
    if !body.is_empty() {
        asked = asked.body(body);
    }
    let mut answer = asked.send().await.map_err(failed)?;
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    let mut read = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if read.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::Other("the answer is larger than any that is expected".into()));
        }
        read.extend_from_slice(&chunk);
    }
    let (parts, ()) = response.into_parts();
    Ok(BytesResponse { parts, body: Box::new(Bytes::from(read)) })
}

fn failed(error: reqwest::Error) -> Error {
    Error::Other(Box::new(error))
}
