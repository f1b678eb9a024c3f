//! API keys: their public ids, the hashes of their secrets, and what they may do.
//!
//! For: creating, finding, listing, renewing and revoking keys. May touch: the table `api_keys`, and `users` for the owner's role.
//! Promises: a secret is kept only as its hash; a key that has ended stays for `KEPT_DAYS`, so that its owner sees what became
//! of it, and is deleted then; whoever makes and revokes keys again and again makes `MADE_PER_DAY_MAX` of them a day.
//! Read next: `auth/api_keys.rs`.

use common::access::{Permission, Role, scope_of};
use common::api_key::SecretHash;
use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{Transaction, on, rows};
use super::idempotency::note_in;
use super::{NewRequest, StorageError, Store};
use crate::base::time::DAY_SECONDS;

/// How long a key stays that was revoked or has expired, in days: as long as the events that speak of it.
const KEPT_DAYS: i64 = 90;

/// Keys that one owner may make within a day, whatever becomes of them.
const MADE_PER_DAY_MAX: i64 = 500;

/// Deletes keys that have ended.
pub(super) const CLEAN: Batch = Batch {
    what: "api_keys_clean",
    rows_max: 1_000,
    statement: "\
        DELETE FROM api_keys WHERE id IN \
        (SELECT id FROM api_keys WHERE revoked_at < $1 UNION SELECT id FROM api_keys WHERE expires_at < $1 LIMIT $2)",
};

/// Asked for every request that comes with a key, unless the gateway remembers the answer.
pub(super) const BY_ID: &str = "\
    SELECT key.id, key.user_id, users.role, key.name, key.secret_hash, key.permissions, key.created_at, \
           key.expires_at, key.revoked_at, key.last_used_at, key.old_secret_hash, key.old_secret_until \
    FROM api_keys AS key JOIN users ON users.id = key.user_id AND users.disabled_at IS NULL \
    WHERE key.id = $1";

/// An API key, as kept, with its owner's present role.
#[derive(Clone, Debug)]
pub struct ApiKeyRow {
    /// The public id.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// What the owner is now.
    pub owner_role: Role,
    /// What the owner calls it.
    pub name: String,
    /// Of the secret.
    pub secret_hash: SecretHash,
    /// What it was given.
    pub permissions: Vec<Permission>,
    /// In seconds.
    pub created_at: i64,
    /// In seconds; never, if `None`.
    pub expires_at: Option<i64>,
    /// In seconds.
    pub revoked_at: Option<i64>,
    /// In seconds, to within a minute.
    pub last_used_at: Option<i64>,
    /// The secret before this one.
    pub old_secret: Option<OldSecret>,
}

/// A secret that was replaced.
#[derive(Clone, Copy, Debug)]
pub struct OldSecret {
    /// Of the secret.
    pub hash: SecretHash,
    /// In seconds; it holds before that.
    pub until: i64,
}

/// A new secret for a key.
#[derive(Clone, Copy, Debug)]
pub struct NewSecret<'a> {
    /// The key's public id.
    pub id: &'a str,
    /// Whose it is.
    pub user_id: &'a str,
    /// Of the secret.
    pub secret_hash: SecretHash,
    /// In seconds.
    pub now: i64,
    /// Until when the secret before holds on, in seconds; `now`, if it shall not.
    pub old_until: i64,
}

/// An API key to be kept.
#[derive(Clone, Copy)]
pub struct NewApiKey<'a> {
    /// The public id.
    pub id: &'a str,
    /// Whose it is.
    pub user_id: &'a str,
    /// What the owner calls it.
    pub name: &'a str,
    /// Of the secret.
    pub secret_hash: SecretHash,
    /// What it is given.
    pub permissions: &'a [Permission],
    /// In seconds.
    pub created_at: i64,
    /// In seconds; never, if `None`.
    pub expires_at: Option<i64>,
}

/// Where a list of keys goes on: after the key with this time and id.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeyPage<'a> {
    /// When the last key seen was created; 0 at the start.
    pub created_at: i64,
    /// The last key seen; empty at the start.
    pub id: &'a str,
    /// The most keys.
    pub limit: u32,
}

rows!(ApiKeyRow, |row| {
    let role: String = row.try_get("role")?;
    let hash: String = row.try_get("secret_hash")?;
    let permissions: String = row.try_get("permissions")?;
    let old_hash: Option<String> = row.try_get("old_secret_hash")?;
    let old_until: Option<i64> = row.try_get("old_secret_until")?;
    Ok(Self {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        owner_role: role.parse().map_err(|error| unsound("role", error))?,
        name: row.try_get("name")?,
        secret_hash: SecretHash::from_hex(&hash).ok_or_else(|| unsound("secret_hash", NotAHash))?,
        permissions: permissions
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|error: common::access::UnknownWord| unsound("permissions", error))?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
        last_used_at: row.try_get("last_used_at")?,
        old_secret: old_hash.zip(old_until).map(|(hash, until)| old_secret(&hash, until)).transpose()?,
    })
});

fn old_secret(hash: &str, until: i64) -> Result<OldSecret, sqlx::Error> {
    let hash = SecretHash::from_hex(hash).ok_or_else(|| unsound("old_secret_hash", NotAHash))?;
    Ok(OldSecret { hash, until })
}

#[derive(Debug, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
struct NotAHash;

fn unsound(column: &str, source: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) }
}

impl Store {
    /// Keeps a new key unless its owner has `live_max` usable ones already, or has made `MADE_PER_DAY_MAX` within a day; says
    /// whether it did. Who makes keys for one owner waits for the others who do, so that the number counted is the number
    /// that is there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_key_create(&self, key: NewApiKey<'_>, live_max: u32) -> Result<bool, StorageError> {
        const WHAT: &str = "api_key_create";
        let mut transaction = self.begin(WHAT).await?;
        let kept = insert(&mut transaction, key, live_max, WHAT).await?;
        transaction.commit(WHAT).await?;
        Ok(kept)
    }

    /// The same, noting the request that asked for it; `None` when there is a request under this key already.
    ///
    /// # Errors
    /// When the database fails; then nothing was kept.
    pub async fn api_key_create_once(
        &self,
        key: NewApiKey<'_>,
        live_max: u32,
        request: NewRequest<'_>,
    ) -> Result<Option<bool>, StorageError> {
        const WHAT: &str = "api_key_create_once";
        let mut transaction = self.begin(WHAT).await?;
        if !note_in(&mut transaction, request, WHAT).await? {
            return Ok(None);
        }
        let kept = insert(&mut transaction, key, live_max, WHAT).await?;
        // A request that was refused may be sent again.
        if kept {
            transaction.commit(WHAT).await?;
        }
        Ok(Some(kept))
    }

    /// The key with this public id, revoked or not; none of a disabled user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_key_by_id(&self, id: &str) -> Result<Option<ApiKeyRow>, StorageError> {
        on!(self.read(), |db| sqlx::query_as(BY_ID).bind(id).fetch_optional(db).await)
            .map_err(StorageError::during("api_key_by_id"))
    }

    /// Keys of one owner in the order in which they were created, revoked ones included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_key_list(&self, user_id: &str, page: ApiKeyPage<'_>) -> Result<Vec<ApiKeyRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(
                "SELECT key.id, key.user_id, users.role, key.name, key.secret_hash, key.permissions, key.created_at, \
                        key.expires_at, key.revoked_at, key.last_used_at, key.old_secret_hash, key.old_secret_until \
                 FROM api_keys AS key JOIN users ON users.id = key.user_id \
                 WHERE key.user_id = $1 AND (key.created_at, key.id) > ($2, $3) \
                 ORDER BY key.created_at, key.id LIMIT $4",
            )
            .bind(user_id)
            .bind(page.created_at)
            .bind(page.id)
            .bind(i64::from(page.limit))
            .fetch_all(db)
            .await
        })
        .map_err(StorageError::during("api_key_list"))
    }

    /// Gives a usable key of this user a new secret; says whether there was such a key. The secret before holds on until
    /// `old_until`. Where two hold already, the older one does so for as long as it was told to, and the newer one ends.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_key_renew(&self, new: NewSecret<'_>) -> Result<bool, StorageError> {
        on!(self.write(), |db| {
            sqlx::query(
                "UPDATE api_keys SET \
                 old_secret_hash = CASE WHEN old_secret_until > $4 AND $5 > $4 THEN old_secret_hash \
                                        ELSE secret_hash END, \
                 old_secret_until = CASE WHEN old_secret_until > $4 AND $5 > $4 THEN old_secret_until ELSE $5 END, \
                 secret_hash = $3 \
                 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)",
            )
            .bind(new.id)
            .bind(new.user_id)
            .bind(new.secret_hash.to_hex())
            .bind(new.now)
            .bind(new.old_until)
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
        })
        .map_err(StorageError::during("api_key_renew"))
    }

    /// Revokes a key; `owner` limits that to the keys of one user. Says whether there was such a key, usable or not:
    /// revoking twice is no error.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_key_revoke(&self, id: &str, owner: Option<&str>, now: i64) -> Result<bool, StorageError> {
        on!(self.write(), |db| {
            sqlx::query(
                "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) \
                 WHERE id = $1 AND ($2 IS NULL OR user_id = $2)",
            )
            .bind(id)
            .bind(owner)
            .bind(now)
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
        })
        .map_err(StorageError::during("api_key_revoke"))
    }

    /// Notes when keys were last used. A later time that another process noted stays.
    ///
    /// # Errors
    /// When the database fails; then none is noted.
    pub async fn api_keys_note_use(&self, uses: &[(String, i64)]) -> Result<(), StorageError> {
        const WHAT: &str = "api_keys_note_use";
        // Every process takes the rows in one order, so that no two of them ever wait for each other.
        let mut uses: Vec<&(String, i64)> = uses.iter().collect();
        uses.sort_unstable();
        let mut transaction = self.begin(WHAT).await?;
        for (id, at) in uses {
            on!(transaction.on(), |db| {
                sqlx::query(
                    "UPDATE api_keys SET last_used_at = $2 \
                     WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
                )
                .bind(id)
                .bind(at)
                .execute(db)
                .await
                .map(|_| ())
            })
            .map_err(StorageError::during(WHAT))?;
        }
        transaction.commit(WHAT).await
    }

    /// Deletes keys that ended more than `KEPT_DAYS` ago, a bounded number at a time, unless another process is cleaning.
    /// Says whether there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn api_keys_clean(&self, now: i64) -> Result<bool, StorageError> {
        self.clean(CLEAN, now.saturating_sub(KEPT_DAYS * DAY_SECONDS)).await
    }
}

/// Keeps a key within a transaction, if there is room; says whether it did.
async fn insert(
    transaction: &mut Transaction,
    key: NewApiKey<'_>,
    live_max: u32,
    what: &'static str,
) -> Result<bool, StorageError> {
    transaction.lock_user(key.user_id).await.map_err(StorageError::during(what))?;
    on!(transaction.on(), |db| {
        sqlx::query(
            "INSERT INTO api_keys (id, user_id, name, secret_hash, permissions, created_at, expires_at) \
             SELECT $1, $2, $3, $4, $5, $6, $7 \
             WHERE (SELECT count(*) FROM api_keys WHERE user_id = $2 AND revoked_at IS NULL \
                    AND (expires_at IS NULL OR expires_at > $6)) < $8 \
               AND (SELECT count(*) FROM api_keys WHERE user_id = $2 AND created_at > $9) < $10",
        )
        .bind(key.id)
        .bind(key.user_id)
        .bind(key.name)
        .bind(key.secret_hash.to_hex())
        .bind(scope_of(key.permissions))
        .bind(key.created_at)
        .bind(key.expires_at)
        .bind(i64::from(live_max))
        .bind(key.created_at.saturating_sub(DAY_SECONDS))
        .bind(MADE_PER_DAY_MAX)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
    })
    .map_err(StorageError::during(what))
}
