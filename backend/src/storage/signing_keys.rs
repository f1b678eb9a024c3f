//! Signing keys: what signs access tokens, sealed.
//!
//! For: keys that are made while the program runs. May touch: the table `signing_keys`.
//! Promises: private keys come and go sealed, this room never sees one; of two who make a key at once one is told that
//! there is a new one already; there are `KEYS_MAX` keys at most. Read next: `auth/keyring.rs`.

use sqlx::Row as _;

use super::engine::{Turn, on, rows};
use super::{StorageError, Store};

/// Keys that are kept at a time.
const KEYS_MAX: i64 = 16;

/// A key, as kept.
#[derive(Clone)]
pub struct SigningKeyRow {
    /// The `kid`.
    pub id: String,
    /// The private key, sealed.
    pub sealed: Vec<u8>,
    /// In seconds.
    pub created_at: i64,
    /// When it begins to sign, in seconds.
    pub signs_from: i64,
}

/// A key to be kept.
#[derive(Clone, Copy)]
pub struct NewSigningKey<'a> {
    /// The `kid`; later ones sort after earlier ones.
    pub id: &'a str,
    /// The private key, sealed.
    pub sealed: &'a [u8],
    /// In seconds.
    pub created_at: i64,
    /// When it begins to sign, in seconds.
    pub signs_from: i64,
}

rows!(SigningKeyRow, |row| {
    Ok(Self {
        id: row.try_get("id")?,
        sealed: row.try_get("sealed")?,
        created_at: row.try_get("created_at")?,
        signs_from: row.try_get("signs_from")?,
    })
});

impl Store {
    /// Every key, in the order in which they begin to sign.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(
                "SELECT id, sealed, created_at, signs_from FROM signing_keys ORDER BY signs_from, id LIMIT $1",
            )
            .bind(KEYS_MAX)
            .fetch_all(db)
            .await
        })
        .map_err(StorageError::during("signing_keys"))
    }

    /// Keeps a new key, unless another waits to sign or there are too many; says whether it did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_key_create(&self, key: NewSigningKey<'_>) -> Result<bool, StorageError> {
        const WHAT: &str = "signing_key_create";
        let mut transaction = self.begin(WHAT).await?;
        transaction.take_turn(Turn::RotatingKeys).await.map_err(StorageError::during(WHAT))?;
        let kept = on!(transaction.on(), |db| {
            sqlx::query(
                "INSERT INTO signing_keys (id, sealed, created_at, signs_from) SELECT $1, $2, $3, $4 \
                 WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE signs_from > $3) \
                   AND (SELECT count(*) FROM signing_keys) < $5",
            )
            .bind(key.id)
            .bind(key.sealed)
            .bind(key.created_at)
            .bind(key.signs_from)
            .bind(KEYS_MAX)
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
        })
        .map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(kept)
    }

    /// Lets the key that waits to sign do so from now on. Gives its id, or `None` when none waits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_key_hurry(&self, now: i64) -> Result<Option<String>, StorageError> {
        on!(self.write(), |db| {
            sqlx::query_scalar("UPDATE signing_keys SET signs_from = $1 WHERE signs_from > $1 RETURNING id")
                .bind(now)
                .fetch_optional(db)
                .await
        })
        .map_err(StorageError::during("signing_key_hurry"))
    }

    /// Deletes keys whose successor began to sign at this second or before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_keys_clean(&self, succeeded_until: i64) -> Result<(), StorageError> {
        on!(self.write(), |db| {
            sqlx::query(
                "DELETE FROM signing_keys WHERE EXISTS (SELECT 1 FROM signing_keys AS later \
                 WHERE (later.signs_from, later.id) > (signing_keys.signs_from, signing_keys.id) \
                   AND later.signs_from <= $1)",
            )
            .bind(succeeded_until)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(StorageError::during("signing_keys_clean"))
    }
}
