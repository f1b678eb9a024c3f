//! Keyring: which keys sign and verify now, of those in the configuration and those that were made since.
//!
//! For: `backend key rotate` and `key list`, and every process, which looks every `KEYS_PERIOD`. May touch: `storage`,
//! the seal. Promises: a new key is published `auth.rotation.publish_before` before it signs; the one before it stays
//! published until its last token has ended, and `auth.rotation.overlap` longer; whoever cannot read a key that is
//! published keeps those it has, and says so. The configuration's keys are the first of the row: as soon as a made key
//! signs, they take their leave as any other does.
//! Read next: `jwks.rs`, `storage/signing_keys.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use common::clock::Clock;

use super::jwks::{DEVELOPMENT_KEY_ID, KeyPair};
use super::seal::Seal;
use super::{Audit, SigningKeyError, SigningKeys};
use crate::base::ids;
use crate::base::time::{now_seconds, to_signed};
use crate::config::{Auth, SigningKeySource};
use crate::storage::{AuditKind, NewSigningKey, SigningKeyRow, StorageError, Store};

/// How often a process looks which keys there are.
pub const KEYS_PERIOD: Duration = Duration::from_secs(1);

/// Why the keys cannot be known, or no new one be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The database.
    #[error("the signing keys cannot be looked up")]
    Storage(#[from] StorageError),
    /// A key that is none.
    #[error("a signing key cannot be used")]
    Key(#[from] SigningKeyError),
    /// There are sealed keys, or should be, and no secret.
    #[error("auth.rotation.secret is needed: keys lie in the database under it")]
    NoSecret,
    /// A key was sealed under another secret, or changed.
    #[error("signing key {id:?} does not open with auth.rotation.secret")]
    Sealed {
        /// Its `kid`.
        id: String,
    },
    /// A key could not be made.
    #[error("no key could be made")]
    Make(#[source] Unspecified),
    /// There is one already that waits, or there are too many.
    #[error("a new key waits to sign already, or too many are still published; see `backend key list`")]
    Waiting,
}

/// What a key does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, and signs later.
    Next,
    /// Signs.
    Signs,
    /// Published, because tokens of it may still hold.
    Leaving,
    /// Not published any more.
    Gone,
}

/// A key, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSigningKey {
    /// The `kid`.
    pub id: String,
    /// What it does now.
    pub state: KeyState,
    /// When it begins to sign, in seconds of the Unix epoch; `None` for keys of the configuration.
    pub signs_from: Option<i64>,
    /// Until when it is published; `None` while nothing follows it.
    pub published_until: Option<i64>,
}

/// Where keys come from.
pub struct Keyring {
    store: Store,
    clock: Arc<dyn Clock>,
    configured: Vec<SigningKeySource>,
    seal: Option<Seal>,
    publish_before_seconds: i64,
    /// How long a key stays published after its successor began to sign.
    leave_seconds: i64,
    /// The ids of the keys that were told last, the signing one first.
    told: Mutex<Vec<String>>,
}

impl KeyState {
    /// The word that an operator reads.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signs => "signs",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
        }
    }
}

impl Keyring {
    /// The ring of these settings.
    ///
    /// # Errors
    /// When the secret cannot be made use of.
    pub fn new(settings: &Auth, store: Store, clock: Arc<dyn Clock>) -> Result<Self, KeyringError> {
        let seal = settings.rotation.secret.as_ref().map(Seal::new).transpose().map_err(KeyringError::Make)?;
        let leave = settings.access_token_ttl.saturating_add(settings.rotation.overlap);
        Ok(Self {
            store,
            clock,
            configured: settings.signing_keys.clone(),
            seal,
            publish_before_seconds: to_signed(settings.rotation.publish_before.as_secs()),
            leave_seconds: to_signed(leave.as_secs()),
            told: Mutex::default(),
        })
    }

    /// The keys of this moment, if they are others than those that were told last.
    ///
    /// # Errors
    /// When one that is published cannot be known; then those that were told last are still the best there are.
    pub async fn follow(&self) -> Result<Option<SigningKeys>, KeyringError> {
        let rows = self.store.signing_keys().await?;
        let listed = self.judge(&rows);
        let mut ids: Vec<String> = Vec::with_capacity(listed.len());
        for wanted in [KeyState::Signs, KeyState::Next, KeyState::Leaving] {
            ids.extend(listed.iter().filter(|key| key.state == wanted).map(|key| key.id.clone()));
        }
        if *self.told.lock().unwrap_or_else(PoisonError::into_inner) == ids {
            return Ok(None);
        }
        let pairs: Result<Vec<KeyPair>, KeyringError> = ids.iter().map(|id| self.pair(id, &rows)).collect();
        let keys = SigningKeys::of(pairs?)?;
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = ids;
        Ok(Some(keys))
    }

    /// Makes a key that signs after it was published for a while. `now_at_once`: the one that waits, or else a new one,
    /// signs from now on. Gives its `kid`.
    ///
    /// # Errors
    /// `NoSecret`, `Waiting`, or that a key could not be made or kept.
    pub async fn rotate(&self, now_at_once: bool, audit: &Audit) -> Result<String, KeyringError> {
        let id = self.rotate_unnoted(now_at_once).await?;
        audit.note(AuditKind::SigningKeyRotated, "operator", None, Some(&id)).await;
        Ok(id)
    }

    async fn rotate_unnoted(&self, now_at_once: bool) -> Result<String, KeyringError> {
        let seal = self.seal.as_ref().ok_or(KeyringError::NoSecret)?;
        let id = ids::new_id();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(KeyringError::Make)?;
        let private = pair.to_pkcs8v1().map_err(KeyringError::Make)?;
        let sealed = seal.seal(&id, private.as_ref()).map_err(KeyringError::Make)?;
        let created_at = now_seconds(&*self.clock);
        if now_at_once && let Some(waiting) = self.store.signing_key_hurry(created_at).await? {
            return Ok(waiting);
        }
        let wait = if now_at_once { 0 } else { self.publish_before_seconds };
        let signs_from = created_at.saturating_add(wait);
        let key = NewSigningKey { id: &id, sealed: &sealed, created_at, signs_from };
        if self.store.signing_key_create(key).await? { Ok(id) } else { Err(KeyringError::Waiting) }
    }

    /// Every key there is, the configuration's first, then in the order in which they begin to sign.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self) -> Result<Vec<ListedSigningKey>, KeyringError> {
        Ok(self.judge(&self.store.signing_keys().await?))
    }

    /// Deletes keys that are not published any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clean(&self) -> Result<(), StorageError> {
        self.store.signing_keys_clean(now_seconds(&*self.clock).saturating_sub(self.leave_seconds)).await
    }

    /// What each key does now. The rows come in the order in which they begin to sign.
    fn judge(&self, rows: &[SigningKeyRow]) -> Vec<ListedSigningKey> {
        let now = now_seconds(&*self.clock);
        let signing = rows.iter().rposition(|row| row.signs_from <= now);
        let until =
            |next: Option<&SigningKeyRow>| next.map(|next| next.signs_from.saturating_add(self.leave_seconds));
        let state = |published_until: Option<i64>| {
            if published_until.is_some_and(|until| until <= now) { KeyState::Gone } else { KeyState::Leaving }
        };
        let configured: Vec<&str> = match &self.configured[..] {
            [] => vec![DEVELOPMENT_KEY_ID],
            keys => keys.iter().map(|key| key.id.as_str()).collect(),
        };
        let mut listed = Vec::with_capacity(configured.len() + rows.len());
        for (index, id) in configured.into_iter().enumerate() {
            let published_until = until(rows.first());
            let state = match signing {
                None if index == 0 => KeyState::Signs,
                // As the configuration says: all of them are published, and the first signs.
                _ => state(published_until),
            };
            listed.push(ListedSigningKey { id: id.to_owned(), state, signs_from: None, published_until });
        }
        for (index, row) in rows.iter().enumerate() {
            let published_until = until(rows.get(index + 1));
            let state = match signing {
                Some(signing) if index == signing => KeyState::Signs,
                Some(signing) if index < signing => state(published_until),
                _ => KeyState::Next,
            };
            let signs_from = Some(row.signs_from);
            listed.push(ListedSigningKey { id: row.id.clone(), state, signs_from, published_until });
        }
        listed
    }

    /// The key of this id, from wherever it is.
    fn pair(&self, id: &str, rows: &[SigningKeyRow]) -> Result<KeyPair, KeyringError> {
        if let Some(row) = rows.iter().find(|row| row.id == id) {
            let seal = self.seal.as_ref().ok_or(KeyringError::NoSecret)?;
            let sealed = |_| KeyringError::Sealed { id: id.to_owned() };
            let private = seal.open(id, &row.sealed).map_err(sealed)?;
            return Ok(KeyPair::of_der(id, &private)?);
        }
        match self.configured.iter().find(|key| key.id == id) {
            Some(key) => Ok(KeyPair::of_pem(id, key.pem.expose())?),
            None => Ok(KeyPair::development()?),
        }
    }
}
