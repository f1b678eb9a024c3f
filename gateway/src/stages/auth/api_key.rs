//! API keys: a key in a header in, an identity out.

use std::sync::Arc;

use common::api_key::ApiKey;
use common::code::Code;
use http::HeaderName;
use prometheus::IntCounterVec;

use super::identity::Identity;
use super::introspect::{Introspector, Known, LookupError, Memory, count, memory, recall};
use super::key_file::{FileKeys, StoredKey};
use crate::base::refusal::{Advice, Challenge, Refusal};
use crate::config::checked::RedisKeys;
use crate::stages::context::Now;
use crate::store::Store;

/// Checks keys of one source.
#[derive(Debug)]
pub(crate) struct ApiKeyVerifier {
    header: HeaderName,
    source: KeySource,
}

/// Who knows the keys.
#[derive(Debug)]
pub(super) enum KeySource {
    Introspection(Box<Introspector>),
    File(FileKeys),
    Redis(RedisKeySource),
}

/// Keys in the store that gateways share.
#[derive(Debug)]
pub(super) struct RedisKeySource {
    scheme: Arc<str>,
    store: Arc<Store>,
    known: Memory,
    lookups: IntCounterVec,
}

impl ApiKeyVerifier {
    pub(super) fn new(header: HeaderName, source: KeySource) -> Self {
        Self { header, source }
    }

    /// The header that carries a key.
    pub(crate) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Who knows the keys.
    pub(super) fn source(&self) -> &KeySource {
        &self.source
    }

    /// Checks a key.
    ///
    /// # Errors
    /// 401 when it is not good, 503 when nobody can say.
    pub(crate) async fn verify(&self, credential: &str, now: Now) -> Result<Arc<Identity>, Refusal> {
        // What does not even look like a key is not worth a question.
        let Ok(key) = ApiKey::parse(credential) else { return Err(invalid()) };
        let identity = match &self.source {
            KeySource::Introspection(introspector) => introspector.identify(credential, now).await?,
            KeySource::File(keys) => keys.identify(&key, now),
            KeySource::Redis(keys) => keys.identify(&key, credential, now).await?,
        };
        identity.ok_or_else(invalid)
    }
}

pub(super) fn invalid() -> Refusal {
    Refusal::new(Code::KeyInvalid).advice(Advice::Authenticate(vec![Challenge::ApiKey]))
}

impl RedisKeySource {
    pub(super) fn new(scheme: Arc<str>, settings: &RedisKeys, store: Arc<Store>, lookups: IntCounterVec) -> Self {
        let times = (settings.cache.duration(), settings.negative_cache.duration());
        Self { scheme, store, known: memory(settings.cache_max, times), lookups }
    }

    async fn identify(&self, key: &ApiKey, credential: &str, now: Now) -> Result<Option<Arc<Identity>>, Refusal> {
        let found = recall(&self.known, &self.scheme, credential, now, self.look_up(key)).await?;
        if found.is_some() {
            // Once a flush, not once a request: see `Store::note_key_use`.
            self.store.note_key_use(key.id(), now.unix_seconds);
        }
        Ok(found)
    }

    async fn look_up(&self, key: &ApiKey) -> Result<Known, LookupError> {
        let read = self.store.key(key.id()).await.map_err(|_| LookupError::StoreAway);
        let outcome = read.map(|json| {
            // What is kept there and cannot be read is no key; it is not the caller's business why.
            let stored = json.and_then(|json| StoredKey::from_json(key.id(), &json));
            let stored = stored.filter(|stored| stored.fits(key));
            Known {
                expires_unix_seconds: stored.as_ref().and_then(|stored| stored.expires_unix_seconds),
                identity: stored.map(|stored| stored.identity),
            }
        });
        count(&self.lookups, &self.scheme, &outcome);
        outcome
    }
}
