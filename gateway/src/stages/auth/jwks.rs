//! Key sets: fetched in the background, kept when the source goes away.
//!
//! A set that was fetched once is used until a newer one arrives. A key id that is not in it causes a fetch at once; when
//! that brings the key, as in a rotation, the next unknown one may cause the next fetch, and when it does not, none does for
//! `UNKNOWN_KEY_INTERVAL`, whatever the flood. As long as there was never a set, nothing can be judged.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use common::body::{self, BodyError};
use common::telemetry::with_causes;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use prometheus::IntCounterVec;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

use crate::config::checked::KeySet;

/// After a fetch for an unknown key id that was in vain, there is none for another one in this time.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(10);

/// First wait after a fetch that failed; doubled up to the refresh interval.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The largest key set that is read, in bytes.
const KEY_SET_BYTES_MAX: usize = 1024 * 1024;

/// The most keys that are taken from a set.
const KEYS_MAX: usize = 256;

/// The keys of one scheme.
#[derive(Debug)]
pub(crate) struct KeyStore {
    keys: ArcSwapOption<Vec<Arc<Key>>>,
    generation: AtomicU64,
    source: Option<Source>,
}

/// One public key, or a shared secret.
pub(crate) struct Key {
    id: Option<String>,
    /// As it was read; `None` for a shared secret.
    source: Option<Jwk>,
    /// The algorithms this key can be used with; the token's must be among them.
    pub algorithms: Vec<Algorithm>,
    pub decoding: DecodingKey,
}

/// The outcome of a search.
pub(crate) enum Lookup {
    Found(Arc<Key>),
    /// The key is there, but for another algorithm.
    OtherAlgorithm,
    Unknown,
    NeverFetched,
}

/// Where a set is fetched from.
#[derive(Debug)]
struct Source {
    scheme: Arc<str>,
    set: KeySet,
    client: reqwest::Client,
    fetches: IntCounterVec,
    /// When a fetch for an unknown key id was last in vain. Held while fetching, so that others wait for the one that is
    /// under way.
    last_in_vain: tokio::sync::Mutex<Option<Instant>>,
}

/// Why a key set could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("the key set could not be fetched")]
    Fetch(#[source] reqwest::Error),
    #[error("the key set could not be read")]
    Read(#[from] BodyError),
    #[error("the key set is not a JWK set")]
    NotAKeySet(#[source] serde_json::Error),
    #[error("the key set holds no key that could be used")]
    NoKeys,
}

impl KeyStore {
    /// Keys that are known from the start and never change.
    pub(crate) fn fixed(keys: Vec<Arc<Key>>) -> Self {
        Self { keys: ArcSwapOption::from_pointee(keys), generation: AtomicU64::new(1), source: None }
    }

    /// Keys that are fetched. Call `keep_fresh` to begin.
    pub(crate) fn fetched(scheme: Arc<str>, set: KeySet, client: reqwest::Client, fetches: IntCounterVec) -> Self {
        let source = Source { scheme, set, client, fetches, last_in_vain: tokio::sync::Mutex::new(None) };
        Self { keys: ArcSwapOption::empty(), generation: AtomicU64::new(0), source: Some(source) }
    }

    /// Whether tokens can be judged at all.
    pub(crate) fn is_ready(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Changes whenever the keys do.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The key for a token with this `kid` and algorithm. A token without `kid` fits when only one key has its algorithm.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        match self.find_now(id, algorithm) {
            Lookup::Unknown if id.is_some() => self.find_anew(id, algorithm).await,
            found => found,
        }
    }

    fn find_now(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        let keys = self.keys.load();
        let Some(keys) = keys.as_ref() else { return Lookup::NeverFetched };
        let mut other_algorithm = false;
        let mut found = None;
        for key in keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id) {
            if !key.algorithms.contains(&algorithm) {
                other_algorithm = true;
            } else if found.replace(key).is_some() {
                // Two keys would fit: trying both would make the choice the attacker's.
                return Lookup::Unknown;
            }
        }
        match found {
            Some(key) => Lookup::Found(Arc::clone(key)),
            None if other_algorithm && id.is_some() => Lookup::OtherAlgorithm,
            None => Lookup::Unknown,
        }
    }

    async fn find_anew(&self, id: Option<&str>, algorithm: Algorithm) -> Lookup {
        let Some(source) = &self.source else { return Lookup::Unknown };
        // Waiting here is bounded by one fetch, which has a deadline for each URL: whoever comes after it finds either the
        // key or the interval running.
        let mut in_vain = source.last_in_vain.lock().await;
        let found = self.find_now(id, algorithm);
        let too_soon = in_vain.is_some_and(|last| last.elapsed() < UNKNOWN_KEY_INTERVAL);
        if too_soon || !matches!(found, Lookup::Unknown) {
            return found;
        }
        self.fetch(source).await;
        let found = self.find_now(id, algorithm);
        *in_vain = matches!(found, Lookup::Unknown).then(Instant::now);
        found
    }

    /// Fetches once, where keys are fetched; whether there are keys now.
    pub(crate) async fn fetch_now(&self) -> bool {
        if let Some(source) = &self.source {
            self.fetch(source).await;
        }
        self.is_ready()
    }

    /// Fetches once; whether that brought a set.
    async fn fetch(&self, source: &Source) -> bool {
        let outcome = source.fetch().await;
        let label = if outcome.is_ok() { "ok" } else { "failed" };
        source.fetches.with_label_values(&[&*source.scheme, label]).inc();
        match outcome {
            Ok(keys) => {
                self.replace(keys);
                true
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(scheme = %source.scheme, error, "key set not refreshed, the last one is kept");
                false
            }
        }
    }

    /// Takes a set in. One that holds the same keys changes nothing, so that verified tokens stay remembered.
    fn replace(&self, keys: Vec<Arc<Key>>) {
        let unchanged = self.keys.load().as_ref().is_some_and(|old| {
            old.len() == keys.len() && old.iter().zip(&keys).all(|(old, new)| old.source == new.source)
        });
        if !unchanged {
            self.keys.store(Some(Arc::new(keys)));
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}

/// Fetches now and at the set's interval, until the store is gone.
pub(crate) fn keep_fresh(store: &Arc<KeyStore>) {
    let store: Weak<KeyStore> = Arc::downgrade(store);
    tokio::spawn(async move {
        let mut retry = FIRST_RETRY;
        loop {
            let wait = {
                let Some(store) = store.upgrade() else { return };
                let Some(source) = &store.source else { return };
                let refresh = source.set.refresh.duration();
                if store.fetch(source).await {
                    retry = FIRST_RETRY;
                    refresh
                } else {
                    let wait = retry.min(refresh);
                    retry = wait * 2;
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    });
}

impl Source {
    /// Asks one URL after the other.
    async fn fetch(&self) -> Result<Vec<Arc<Key>>, KeySetError> {
        let mut outcome = Err(KeySetError::NoKeys);
        for url in &self.set.urls {
            outcome = self.fetch_from(&url.0).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn fetch_from(&self, url: &url::Url) -> Result<Vec<Arc<Key>>, KeySetError> {
        let request = self.client.get(url.clone()).timeout(self.set.timeout.duration());
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        parse(&body::read(answer.map_err(KeySetError::Fetch)?, KEY_SET_BYTES_MAX).await?)
    }
}

/// Reads a JWK set. Keys that are not for signatures, or of a kind that is not known, are passed over (RFC 7517 §5).
///
/// # Errors
/// When it is not a set, or no key is left.
pub(crate) fn parse(json: &[u8]) -> Result<Vec<Arc<Key>>, KeySetError> {
    // Key by key, because one of an unknown kind must not spoil the others.
    #[derive(serde::Deserialize)]
    struct Members {
        keys: Vec<serde_json::Value>,
    }
    let members: Members = serde_json::from_slice(json).map_err(KeySetError::NotAKeySet)?;
    let known = members.keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let set = JwkSet { keys: known.collect() };
    let keys: Vec<Arc<Key>> = set.keys.iter().filter_map(Key::from_jwk).map(Arc::new).collect();
    if keys.is_empty() { Err(KeySetError::NoKeys) } else { Ok(keys) }
}

impl Key {
    /// A shared secret for HS256.
    pub(crate) fn shared(secret: &str) -> Self {
        Self {
            id: None,
            source: None,
            algorithms: vec![Algorithm::HS256],
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let kind: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::PS256],
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            // A symmetric key in a public set is everybody's key.
            _ => return None,
        };
        // A key that names its algorithm is for that one only.
        let named = jwk.common.key_algorithm.map(|named| named.to_string());
        let fits = |algorithm: &&Algorithm| named.as_ref().is_none_or(|named| *named == format!("{algorithm:?}"));
        let algorithms: Vec<Algorithm> = kind.iter().filter(fits).copied().collect();
        if algorithms.is_empty() {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), source: Some(jwk.clone()), algorithms, decoding })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}
