//! API keys: a key in a header in, an identity out.
//!
//! The source of keys is asked (RFC 7662) and its answer believed for a short, stated time, good or bad. Many requests
//! with one key cause one question. When the source is away, keys that are remembered work until their time is over.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use common::api_key::ApiKey;
use common::claims::Introspection as Answer;
use common::code::Code;
use common::secret::Secret;
use common::telemetry::with_causes;
use http::HeaderName;
use prometheus::IntCounterVec;

use super::identity::{Identity, Method};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::config::checked::Introspection;
use crate::stages::context::Now;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Questions that may be open at a time: a flood of made-up keys must not become a flood at the source.
const LOOKUPS_MAX: usize = 128;

/// Checks keys of one source.
#[derive(Debug)]
pub(crate) struct ApiKeyVerifier {
    header: HeaderName,
    source: Source,
    known: moka::future::Cache<[u8; 32], Known>,
}

/// What is known of a key: whose it is, or that it is not good.
#[derive(Clone, Debug)]
struct Known {
    identity: Option<Arc<Identity>>,
    expires_unix_seconds: Option<u64>,
}

#[derive(Debug)]
struct Source {
    scheme: Arc<str>,
    urls: Vec<url::Url>,
    secret: Option<Secret>,
    timeout: Duration,
    client: reqwest::Client,
    lookups: IntCounterVec,
    places: tokio::sync::Semaphore,
}

/// Why a key could not be looked up.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("the source of keys could not be asked")]
    Ask(#[source] reqwest::Error),
    #[error("the source of keys answered more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the source of keys did not answer in the form of RFC 7662")]
    Form(#[source] serde_json::Error),
    #[error("the source of keys called a key active and did not say in usable words whose it is")]
    NoSubject,
    #[error("more than {LOOKUPS_MAX} questions to the source of keys are open")]
    Busy,
    #[error("the source of keys has no address")]
    NoSource,
}

impl ApiKeyVerifier {
    pub(crate) fn new(
        scheme: Arc<str>,
        header: HeaderName,
        introspection: &Introspection,
        secret: Option<Secret>,
        client: reqwest::Client,
        lookups: IntCounterVec,
    ) -> Self {
        let known = moka::future::Cache::builder()
            .max_capacity(introspection.cache_max.into())
            .time_to_live(introspection.cache.duration())
            .build();
        let source = Source {
            scheme,
            urls: introspection.urls.iter().map(|url| url.0.clone()).collect(),
            secret,
            timeout: introspection.timeout.duration(),
            client,
            lookups,
            places: tokio::sync::Semaphore::new(LOOKUPS_MAX),
        };
        Self { header, source, known }
    }

    /// The header that carries a key.
    pub(crate) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Checks a key.
    ///
    /// # Errors
    /// 401 when it is not good, 503 when nobody can say.
    pub(crate) async fn verify(&self, key: &str, now: Now) -> Result<Arc<Identity>, Refusal> {
        // What does not even look like a key is not worth a question.
        if ApiKey::parse(key).is_err() {
            return Err(invalid());
        }
        let mut hash = [0; 32];
        // SHA-256 has 32 bytes by definition.
        hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        let known = self.known.try_get_with(hash, self.source.look_up(key)).await;
        let known = known.map_err(|error: Arc<LookupError>| {
            tracing::warn!(scheme = %self.source.scheme, error = with_causes(&*error), "API key not checked");
            Refusal::new(Code::KeySourceUnavailable)
        })?;
        let expired = known.expires_unix_seconds.is_some_and(|expires| expires <= now.unix_seconds);
        known.identity.filter(|_| !expired).ok_or_else(invalid)
    }
}

fn invalid() -> Refusal {
    Refusal::new(Code::KeyInvalid).advice(Advice::Authenticate(vec![Challenge::ApiKey]))
}

impl Source {
    /// Asks one URL after the other until one answers.
    async fn look_up(&self, key: &str) -> Result<Known, LookupError> {
        let _place = self.places.try_acquire().map_err(|_| LookupError::Busy)?;
        let mut outcome = Err(LookupError::NoSource);
        for url in &self.urls {
            outcome = self.ask(url, key).await;
            if outcome.is_ok() {
                break;
            }
        }
        let label = match &outcome {
            Ok(Known { identity: Some(_), .. }) => "active",
            Ok(_) => "inactive",
            Err(_) => "failed",
        };
        self.lookups.with_label_values(&[&*self.scheme, label]).inc();
        outcome
    }

    async fn ask(&self, url: &url::Url, key: &str) -> Result<Known, LookupError> {
        let mut request = self.client.post(url.clone()).timeout(self.timeout).form(&[("token", key)]);
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret.expose());
        }
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(LookupError::Ask)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(LookupError::Ask)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(LookupError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(LookupError::Form)?;
        if !answer.active {
            return Ok(Known { identity: None, expires_unix_seconds: None });
        }
        let (subject, scope) = (answer.sub.unwrap_or_default(), answer.scope.unwrap_or_default());
        let identity = Identity::new(&subject, Method::ApiKey, &scope, &answer.roles, answer.key_id.as_deref());
        let identity = identity.ok_or(LookupError::NoSubject)?;
        Ok(Known { identity: Some(Arc::new(identity)), expires_unix_seconds: answer.exp })
    }
}
