//! API keys: made, shown once, verified, renewed, revoked.
//!
//! For: programs that call the API on a user's behalf. May touch: `storage`, audit.
//! Promises: a key never exceeds its owner, neither when it is made nor later, when the owner may have become less; one
//! that is made by a key does not outlive it; nobody gets the secret of a key that may more or lasts longer than what they
//! show; while a secret is replaced, the one before holds on as well, and never a third, and what it makes ends with it; a
//! revoked key is refused at its next use; which of malformed, unknown, expired or revoked it is, is not told.
//! Read next: `last_used.rs`, then `common::api_key` for how a key looks.

use std::sync::Arc;

use common::access::{Permission, scope_of};
use common::api_key::ApiKey;
use common::clock::Clock;

use super::idempotency::{check_key, check_same};
use super::{Audit, AuthError, Caller, Client, LastUsed, Method, Withdrawals};
use crate::base::digest::sha256_of_parts;
use crate::base::ids;
use crate::base::time::{DAY_SECONDS, now_seconds};
use crate::storage::{ApiKeyPage, ApiKeyRow, AuditKind, NewApiKey, NewRequest, NewSecret, RequestKey, Store};

/// Usable keys that one user may have.
pub const KEYS_PER_USER_MAX: u32 = 100;
/// The longest name of a key, in characters.
const NAME_CHARS_MAX: usize = 64;
/// The longest that a key with an end may hold, in days.
const EXPIRES_IN_DAYS_MAX: u32 = 3_650;
/// How long a secret holds on that is replaced, in hours, if nobody says otherwise: long enough for a rolling update.
const OLD_SECRET_HOURS: u32 = 24;
/// And at most.
pub const OLD_SECRET_HOURS_MAX: u32 = 168;
/// Seconds of an hour.
const HOUR_SECONDS: i64 = 3_600;

/// By what requests for new keys are known, beside their idempotency keys.
const CREATE: &str = "api_key_create";

/// What a new key should be.
#[derive(Clone, Debug)]
pub struct ApiKeyInput {
    /// What the owner calls it.
    pub name: String,
    /// What it may do; all that the caller may, if `None`.
    pub permissions: Option<Vec<Permission>>,
    /// When it ends; never, if `None`; with the key that makes it at the latest.
    pub expires_in_days: Option<u32>,
}

/// A key that was just made.
pub struct CreatedKey {
    /// The whole key, to be shown once.
    pub key: ApiKey,
    /// What is kept of it.
    pub listed: ListedKey,
}

/// A key, as its owner sees it afterwards.
#[derive(Clone, Debug)]
pub struct ListedKey {
    /// The public id.
    pub id: String,
    /// What the owner calls it.
    pub name: String,
    /// What it was given.
    pub permissions: Vec<Permission>,
    /// In seconds of the Unix epoch, as all times here.
    pub created_at: i64,
    /// Never, if `None`.
    pub expires_at: Option<i64>,
    /// Not revoked, if `None`.
    pub revoked_at: Option<i64>,
    /// Not yet, if `None`; to within a minute.
    pub last_used_at: Option<i64>,
    /// Until when the secret before this one holds on; there is none, if `None`.
    pub old_secret_until: Option<i64>,
}

/// A key that holds.
#[derive(Clone, Debug)]
pub struct VerifiedKey {
    /// Who shows it.
    pub caller: Caller,
    /// Refused from this second on.
    pub expires_at: Option<i64>,
}

/// Everything keys need.
pub struct ApiKeys {
    /// Where they are kept.
    pub store: Store,
    /// Writes events down.
    pub audit: Audit,
    /// Tells gateways of keys that were revoked.
    pub withdrawals: Arc<Withdrawals>,
    /// Remembers when keys were used.
    pub last_used: Arc<LastUsed>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl ListedKey {
    fn new(row: ApiKeyRow, now: i64) -> Self {
        Self {
            id: row.id,
            name: row.name,
            permissions: row.permissions,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
            old_secret_until: row.old_secret.map(|old| old.until).filter(|until| *until > now),
        }
    }
}

impl ApiKeys {
    /// Makes a key for the caller; under an idempotency key once within a day, since it is shown once.
    ///
    /// # Errors
    /// `Input`, `GrantExceeded` when it should do more than the caller may, `KeysFull`, `SecretShown` when the same
    /// request was done before, `RequestKeyReused` when another was, or that the database failed.
    pub async fn create(
        &self,
        caller: &Caller,
        input: ApiKeyInput,
        request_key: Option<&str>,
        client: &Client<'_>,
    ) -> Result<CreatedKey, AuthError> {
        request_key.map_or(Ok(()), check_key)?;
        let permissions = input.permissions.clone().unwrap_or_else(|| caller.permissions.clone());
        check_input(&input, &permissions)?;
        caller.may_grant(&permissions)?;
        let key = ApiKey::generate();
        let created_at = now_seconds(&*self.clock);
        let ends_at = input.expires_in_days.map(|days| created_at.saturating_add(i64::from(days) * DAY_SECONDS));
        let listed = ListedKey {
            id: key.id().to_owned(),
            name: input.name,
            permissions,
            created_at,
            // Else whoever finds a key that ends could make one of it that does not.
            expires_at: ends_at.into_iter().chain(caller.key_ends_at).min(),
            revoked_at: None,
            last_used_at: None,
            old_secret_until: None,
        };
        let row = NewApiKey {
            id: &listed.id,
            user_id: &caller.subject,
            name: &listed.name,
            secret_hash: key.secret_hash(),
            permissions: &listed.permissions,
            created_at,
            expires_at: listed.expires_at,
        };
        let kept = match request_key {
            Some(key) => self.keep_once(row, key, input.expires_in_days).await?,
            None => self.store.api_key_create(row, KEYS_PER_USER_MAX).await?,
        };
        if !kept {
            return Err(AuthError::KeysFull);
        }
        self.audit.note(AuditKind::ApiKeyCreated, &caller.subject, Some(client), Some(&listed.id)).await;
        Ok(CreatedKey { key, listed })
    }

    /// Keeps a key unless the request was done before; says whether there was room for it.
    async fn keep_once(
        &self,
        row: NewApiKey<'_>,
        key: &str,
        expires_in_days: Option<u32>,
    ) -> Result<bool, AuthError> {
        let key = RequestKey { subject: row.user_id, route: CREATE, key };
        let days = expires_in_days.map_or_else(String::new, |days| days.to_string());
        let permissions = scope_of(row.permissions);
        let body_hash = sha256_of_parts(&[row.name.as_bytes(), permissions.as_bytes(), days.as_bytes()]);
        let at = row.created_at;
        let request = NewRequest { key, body_hash: &body_hash, secret_hash: None, answer: "", at };
        if let Some(kept) = self.store.api_key_create_once(row, KEYS_PER_USER_MAX, request).await? {
            return Ok(kept);
        }
        match self.store.request_by_key(key, at).await? {
            Some(done) => check_same(&done, &body_hash).and(Err(AuthError::SecretShown)),
            None => Err(AuthError::RequestKeyReused),
        }
    }

    /// Up to `limit` keys after the one made at this second with this id: those of the user with the id `owner`, for who
    /// administers, or the caller's own.
    ///
    /// # Errors
    /// `PermissionMissing`, or that the database failed.
    pub async fn list(
        &self,
        caller: &Caller,
        owner: Option<&str>,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Vec<ListedKey>, AuthError> {
        let owner = owner.unwrap_or(&caller.subject);
        if owner != caller.subject {
            caller.require(&[Permission::Admin])?;
        }
        if !ids::may_be_one(owner) {
            return Ok(Vec::new());
        }
        let (created_at, id) = after.unwrap_or((0, ""));
        let rows = self.store.api_key_list(owner, ApiKeyPage { created_at, id, limit }).await?;
        let now = now_seconds(&*self.clock);
        Ok(rows.into_iter().map(|row| ListedKey::new(row, now)).collect())
    }

    /// Gives a key of the caller's a new secret. The one before holds on for so many hours; with none of them, every
    /// secret before ends at once. Where two hold already, the older one does so for as long as it was told to, and the
    /// newer one ends: whoever did not get the answer asks again, and what is in use goes on.
    ///
    /// # Errors
    /// `Input`, `NotFound` for a key that is not the caller's or no longer holds, `GrantExceeded` and `OutlivesCaller` for
    /// one that is more than what the caller shows, or that the database failed.
    pub async fn rotate(
        &self,
        caller: &Caller,
        id: &str,
        old_secret_hours: Option<u32>,
        client: &Client<'_>,
    ) -> Result<CreatedKey, AuthError> {
        let hours = old_secret_hours.unwrap_or(OLD_SECRET_HOURS);
        if hours > OLD_SECRET_HOURS_MAX {
            let why = format!("must be 0 to {OLD_SECRET_HOURS_MAX}");
            return Err(AuthError::Input { field: "old_secret_hours", why });
        }
        let key = ApiKey::renewed(id).ok_or(AuthError::NotFound)?;
        self.check_own(caller, id).await?;
        let now = now_seconds(&*self.clock);
        let new = NewSecret {
            id,
            user_id: &caller.subject,
            secret_hash: key.secret_hash(),
            now,
            old_until: now.saturating_add(i64::from(hours) * HOUR_SECONDS),
        };
        if !self.store.api_key_renew(new).await? {
            return Err(AuthError::NotFound);
        }
        self.audit.note(AuditKind::ApiKeyRotated, &caller.subject, Some(client), Some(id)).await;
        let row = self.store.api_key_by_id(id).await?.ok_or(AuthError::NotFound)?;
        Ok(CreatedKey { key, listed: ListedKey::new(row, now) })
    }

    /// Refuses unless the key is the caller's own, and no more than what they show.
    async fn check_own(&self, caller: &Caller, id: &str) -> Result<(), AuthError> {
        let kept = self.store.api_key_by_id(id).await?.ok_or(AuthError::NotFound)?;
        if kept.user_id != caller.subject {
            return Err(AuthError::NotFound);
        }
        let ends_before = |ends: i64| kept.expires_at.is_none_or(|expires_at| expires_at > ends);
        if caller.key_ends_at.is_some_and(ends_before) {
            return Err(AuthError::OutlivesCaller);
        }
        // An owner who has become less may become more again: before another key all counts that this one was given.
        let by_another = caller.key_id.as_deref().is_some_and(|shown| shown != id);
        let wanted = if by_another { kept.permissions } else { caller_of(kept).permissions };
        caller.may_grant(&wanted)
    }

    /// Revokes a key: one of the caller's own, or any for who administers.
    ///
    /// # Errors
    /// `NotFound`, or that the database failed.
    pub async fn revoke(&self, caller: &Caller, id: &str, client: &Client<'_>) -> Result<(), AuthError> {
        let owner = if caller.may(Permission::Admin) { None } else { Some(caller.subject.as_str()) };
        if !ids::may_be_one(id) || !self.store.api_key_revoke(id, owner, now_seconds(&*self.clock)).await? {
            return Err(AuthError::NotFound);
        }
        self.withdrawals.withdraw_key(id).await?;
        self.audit.note(AuditKind::ApiKeyRevoked, &caller.subject, Some(client), Some(id)).await;
        Ok(())
    }

    /// Who shows this key.
    ///
    /// # Errors
    /// `KeyInvalid`, or that the database failed.
    pub async fn verify(&self, text: &str) -> Result<VerifiedKey, AuthError> {
        let shown = ApiKey::parse(text).map_err(|_| AuthError::KeyInvalid)?;
        let kept = self.store.api_key_by_id(shown.id()).await?.ok_or(AuthError::KeyInvalid)?;
        let now = now_seconds(&*self.clock);
        let hash = shown.secret_hash();
        let old = kept.old_secret.filter(|old| old.until > now && old.hash.matches(&hash));
        let right = kept.secret_hash.matches(&hash) || old.is_some();
        let expired = kept.expires_at.is_some_and(|expires_at| expires_at <= now);
        if !right || expired || kept.revoked_at.is_some() {
            return Err(AuthError::KeyInvalid);
        }
        self.last_used.note(&kept.id, now);
        // Whoever remembers the answer must not remember an old secret for longer than it holds.
        let expires_at = kept.expires_at.into_iter().chain(old.map(|old| old.until)).min();
        // Nor does it make anything that outlasts it: else whoever finds one that was replaced replaces the new one.
        let caller = Caller { key_ends_at: expires_at, ..caller_of(kept) };
        Ok(VerifiedKey { caller, expires_at })
    }
}

/// What the key was given, less what its owner no longer has.
fn caller_of(kept: ApiKeyRow) -> Caller {
    let owners = kept.owner_role.permissions();
    Caller {
        subject: kept.user_id,
        roles: vec![kept.owner_role.as_str().to_owned()],
        permissions: kept.permissions.into_iter().filter(|permission| owners.contains(permission)).collect(),
        method: Method::ApiKey,
        key_id: Some(kept.id),
        key_ends_at: kept.expires_at,
    }
}

fn check_input(input: &ApiKeyInput, permissions: &[Permission]) -> Result<(), AuthError> {
    let wrong = |field, why: String| Err(AuthError::Input { field, why });
    let length = input.name.chars().count();
    if !(1..=NAME_CHARS_MAX).contains(&length) || input.name.chars().any(char::is_control) {
        return wrong("name", format!("must have 1 to {NAME_CHARS_MAX} printable characters"));
    }
    if permissions.is_empty() {
        return wrong("permissions", "must name at least one permission".into());
    }
    if input.expires_in_days.is_some_and(|days| !(1..=EXPIRES_IN_DAYS_MAX).contains(&days)) {
        return wrong("expires_in_days", format!("must be 1 to {EXPIRES_IN_DAYS_MAX}"));
    }
    Ok(())
}
