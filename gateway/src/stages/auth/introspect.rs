//! Introspect: asks the source of a key or token whether it is good (RFC 7662).
//!
//! Answers are believed for a short, stated time, good or bad. Many requests with one credential cause one question. When the
//! source is away, what is remembered works until its time is over; what is not cannot be judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::body::{self, BodyError};
use common::code::Code;
use common::secret::Secret;
use common::telemetry::with_causes;
use prometheus::IntCounterVec;

use super::claims::{ClaimWrong, Claims, Reader};
use super::credential::hash;
use super::identity::{Identity, Method};
use crate::base::refusal::Refusal;
use crate::config::checked::Introspection;
use crate::stages::context::Now;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Questions that may be open at a time: a flood of made-up credentials must not become a flood at the source.
const LOOKUPS_MAX: usize = 128;

/// What is remembered about credentials, by their hash.
pub(super) type Memory = moka::future::Cache<[u8; 32], Known>;

/// What is known of a credential: whose it is, or that it is not good.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub identity: Option<Arc<Identity>>,
    pub expires_unix_seconds: Option<u64>,
}

/// An endpoint, and what it has said.
#[derive(Debug)]
pub(crate) struct Introspector {
    scheme: Arc<str>,
    method: Method,
    urls: Vec<url::Url>,
    client_id: Option<String>,
    secret: Option<Secret>,
    timeout: Duration,
    audience: Option<String>,
    reader: Reader,
    client: reqwest::Client,
    lookups: IntCounterVec,
    places: tokio::sync::Semaphore,
    known: Memory,
}

/// Why a credential could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error("the source of credentials could not be asked")]
    Ask(#[source] reqwest::Error),
    #[error("the answer of the source of credentials could not be read")]
    Read(#[from] BodyError),
    #[error("the source of credentials did not answer in the form of RFC 7662")]
    Form(#[source] serde_json::Error),
    #[error("the source of credentials called one active and did not say in usable words whose it is")]
    NoSubject,
    #[error("more than {LOOKUPS_MAX} questions to the source of credentials are open")]
    Busy,
    #[error("the source of credentials has no address")]
    NoSource,
    #[error("the store that has the keys is away")]
    StoreAway,
}

/// What an introspector is made of besides its settings.
pub(super) struct Tools {
    pub scheme: Arc<str>,
    pub method: Method,
    pub secret: Option<Secret>,
    pub audience: Option<String>,
    pub reader: Reader,
    pub client: reqwest::Client,
    pub lookups: IntCounterVec,
}

impl Introspector {
    pub(super) fn new(settings: &Introspection, tools: Tools) -> Self {
        let cache = (settings.cache.duration(), settings.negative_cache.duration());
        let Tools { scheme, method, secret, audience, reader, client, lookups } = tools;
        Self {
            scheme,
            method,
            urls: settings.urls.iter().map(|url| url.0.clone()).collect(),
            client_id: settings.client_id.clone(),
            secret,
            timeout: settings.timeout.duration(),
            audience,
            reader,
            client,
            lookups,
            places: tokio::sync::Semaphore::new(LOOKUPS_MAX),
            known: memory(settings.cache_max, cache),
        }
    }

    /// Whose credential it would be, had the source answered with these claims.
    pub(super) fn assume(&self, claims: &Claims) -> Result<Identity, ClaimWrong> {
        self.reader.identity(claims, self.method)
    }

    /// Whose credential it is; `None` when it is not good.
    ///
    /// # Errors
    /// 503 when nobody can say.
    pub(super) async fn identify(&self, credential: &str, now: Now) -> Result<Option<Arc<Identity>>, Refusal> {
        recall(&self.known, &self.scheme, credential, now, self.look_up(credential)).await
    }

    /// Asks one URL after the other until one answers.
    async fn look_up(&self, credential: &str) -> Result<Known, LookupError> {
        let _place = self.places.try_acquire().map_err(|_| LookupError::Busy)?;
        let mut outcome = Err(LookupError::NoSource);
        for url in &self.urls {
            outcome = self.ask(url, credential).await;
            if outcome.is_ok() {
                break;
            }
        }
        count(&self.lookups, &self.scheme, &outcome);
        outcome
    }

    async fn ask(&self, url: &url::Url, credential: &str) -> Result<Known, LookupError> {
        let mut request = self.client.post(url.clone()).timeout(self.timeout).form(&[("token", credential)]);
        request = match (&self.client_id, &self.secret) {
            (Some(client), Some(secret)) => request.basic_auth(client, Some(secret.expose())),
            (None, Some(secret)) => request.bearer_auth(secret.expose()),
            (_, None) => request,
        };
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let body = body::read(answer.map_err(LookupError::Ask)?, ANSWER_BYTES_MAX).await?;
        let claims: Claims = serde_json::from_slice(&body).map_err(LookupError::Form)?;
        let meant_for_us = self.audience.as_ref().is_none_or(|audience| claims.names("aud", audience));
        if !claims.is_true("active") || !meant_for_us {
            return Ok(Known { identity: None, expires_unix_seconds: None });
        }
        let expires_unix_seconds = claims.seconds("exp").map_err(|_| LookupError::NoSubject)?;
        let identity = self.reader.identity(&claims, self.method).map_err(|_| LookupError::NoSubject)?;
        Ok(Known { identity: Some(Arc::new(identity)), expires_unix_seconds })
    }
}

/// Remembers so many answers, good ones and bad ones for so long.
pub(super) fn memory(keys_max: u32, (good, bad): (Duration, Duration)) -> Memory {
    moka::future::Cache::builder().max_capacity(keys_max.into()).expire_after(Times { good, bad }).build()
}

/// How long good and bad answers are believed.
struct Times {
    good: Duration,
    bad: Duration,
}

impl moka::Expiry<[u8; 32], Known> for Times {
    fn expire_after_create(&self, _key: &[u8; 32], known: &Known, _created: Instant) -> Option<Duration> {
        Some(if known.identity.is_some() { self.good } else { self.bad })
    }
}

/// What is remembered of a credential, or else what `look_up` finds out. Many who ask at the same time cause one look.
///
/// # Errors
/// 503 when nobody can say.
pub(super) async fn recall(
    known: &Memory,
    scheme: &Arc<str>,
    credential: &str,
    now: Now,
    look_up: impl Future<Output = Result<Known, LookupError>>,
) -> Result<Option<Arc<Identity>>, Refusal> {
    let known = known.try_get_with(hash(credential), look_up).await.map_err(|error: Arc<LookupError>| {
        tracing::warn!(scheme = %scheme, error = with_causes(&*error), "credential not checked");
        Refusal::new(Code::KeySourceUnavailable)
    })?;
    let expired = known.expires_unix_seconds.is_some_and(|expires| expires <= now.unix_seconds);
    Ok(known.identity.filter(|_| !expired))
}

/// Counts a look by its outcome.
pub(super) fn count(lookups: &IntCounterVec, scheme: &str, outcome: &Result<Known, LookupError>) {
    let label = match outcome {
        Ok(Known { identity: Some(_), .. }) => "active",
        Ok(_) => "inactive",
        Err(_) => "failed",
    };
    lookups.with_label_values(&[scheme, label]).inc();
}
