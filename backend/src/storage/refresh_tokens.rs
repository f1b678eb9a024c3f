//! Refresh tokens: used once, then replaced.
//!
//! For: families of refresh tokens. A login opens a family; each refresh spends the current token and adds the next.
//! May touch: the tables `refresh_families` and `refresh_tokens`. Promises: of two refreshes with one token exactly one
//! wins, also across processes; a spent token that is sent again revokes its family (RFC 9700 §4.14.2).
//! Why that holds: on `SQLite` one transaction writes at a time. On Postgres the statement that spends a token locks its
//! row; whoever meets the lock waits for the other's end and then looks at the row again, where `used_at` says that it
//! came second. A family that is revoked at that very moment may still get one token more, which nobody can spend.
//! Read next: `auth/sessions.rs`.

use super::engine::{Transaction, Turn, on};
use super::{StorageError, Store};

/// Asked at every refresh. The whole decision is one statement: whoever sets `used_at` has won.
pub(super) const SPEND: &str = "\
    UPDATE refresh_tokens SET used_at = $2 \
    WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 \
      AND EXISTS (SELECT 1 FROM refresh_families AS family \
                  WHERE family.id = refresh_tokens.family_id AND family.revoked_at IS NULL) \
    RETURNING family_id, \
      (SELECT user_id FROM refresh_families AS family WHERE family.id = refresh_tokens.family_id)";

/// Expired tokens deleted at once, so that cleaning never holds the write lock for long.
const CLEAN_ROWS_MAX: i64 = 1_000;

/// A token to be kept.
#[derive(Clone, Copy)]
pub struct NewRefreshToken<'a> {
    /// SHA-256 of the token.
    pub token_hash: &'a [u8],
    /// In seconds.
    pub issued_at: i64,
    /// In seconds.
    pub expires_at: i64,
}

/// What became of an attempt to refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token was spent and the next one kept.
    Rotated {
        /// Whose it is.
        user_id: String,
    },
    /// The token had been spent before: somebody has a copy. Its family is revoked now.
    Reused {
        /// Whose it was.
        user_id: String,
    },
    /// The token is unknown, expired or revoked.
    Refused,
}

impl Store {
    /// Opens a family with its first token.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_family_create(
        &self,
        family_id: &str,
        user_id: &str,
        first: NewRefreshToken<'_>,
    ) -> Result<(), StorageError> {
        const WHAT: &str = "refresh_family_create";
        let mut transaction = self.begin(WHAT).await?;
        on!(transaction.on(), |db| {
            sqlx::query("INSERT INTO refresh_families (id, user_id, created_at) VALUES ($1, $2, $3)")
                .bind(family_id)
                .bind(user_id)
                .bind(first.issued_at)
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(StorageError::during(WHAT))?;
        insert(&mut transaction, family_id, first, WHAT).await?;
        transaction.commit(WHAT).await
    }

    /// Spends the token with this hash and keeps `next` in its family.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn refresh_token_rotate(
        &self,
        token_hash: &[u8],
        next: NewRefreshToken<'_>,
    ) -> Result<Rotation, StorageError> {
        const WHAT: &str = "refresh_token_rotate";
        let mut transaction = self.begin(WHAT).await?;
        let spent: Option<(String, String)> = on!(transaction.on(), |db| {
            sqlx::query_as(SPEND).bind(token_hash).bind(next.issued_at).fetch_optional(db).await
        })
        .map_err(StorageError::during(WHAT))?;
        let outcome = match spent {
            Some((family_id, user_id)) => {
                insert(&mut transaction, &family_id, next, WHAT).await?;
                Rotation::Rotated { user_id }
            }
            None => revoke_if_reused(&mut transaction, token_hash, next.issued_at, WHAT).await?,
        };
        transaction.commit(WHAT).await?;
        Ok(outcome)
    }

    /// Revokes the family of the token with this hash; says whose it was, or `None` when there was nothing to revoke.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_family_revoke(&self, token_hash: &[u8], now: i64) -> Result<Option<String>, StorageError> {
        on!(self.write(), |db| {
            sqlx::query_scalar(
                "UPDATE refresh_families SET revoked_at = $2 \
                 WHERE revoked_at IS NULL AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1) \
                 RETURNING user_id",
            )
            .bind(token_hash)
            .bind(now)
            .fetch_optional(db)
            .await
        })
        .map_err(StorageError::during("refresh_family_revoke"))
    }

    /// Deletes tokens that have expired, and families that have none left, a bounded number at a time, unless another
    /// process is cleaning. Says whether there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_tokens_clean(&self, now: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "refresh_tokens_clean";
        let mut transaction = self.begin(WHAT).await?;
        // Two that delete the same rows in different orders could each wait for the other.
        if !transaction.try_turn(Turn::Cleaning).await.map_err(StorageError::during(WHAT))? {
            return Ok(false);
        }
        let gone = on!(transaction.on(), |db| {
            sqlx::query(
                "DELETE FROM refresh_tokens WHERE token_hash IN \
                 (SELECT token_hash FROM refresh_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
            )
            .bind(now)
            .bind(CLEAN_ROWS_MAX)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
        })
        .map_err(StorageError::during(WHAT))?;
        // A family is made together with its first token, so that one without any has come to its end.
        on!(transaction.on(), |db| {
            sqlx::query(
                "DELETE FROM refresh_families WHERE id IN (SELECT family.id FROM refresh_families AS family \
                 WHERE NOT EXISTS (SELECT 1 FROM refresh_tokens AS token WHERE token.family_id = family.id) LIMIT $1)",
            )
            .bind(CLEAN_ROWS_MAX)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(i64::try_from(gone).is_ok_and(|gone| gone >= CLEAN_ROWS_MAX))
    }
}

async fn insert(
    transaction: &mut Transaction,
    family_id: &str,
    token: NewRefreshToken<'_>,
    what: &'static str,
) -> Result<(), StorageError> {
    on!(transaction.on(), |db| {
        sqlx::query(
            "INSERT INTO refresh_tokens (token_hash, family_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(token.token_hash)
        .bind(family_id)
        .bind(token.issued_at)
        .bind(token.expires_at)
        .execute(db)
        .await
        .map(|_| ())
    })
    .map_err(StorageError::during(what))
}

/// The token could not be spent. When that is because it had been, its family is revoked.
async fn revoke_if_reused(
    transaction: &mut Transaction,
    token_hash: &[u8],
    now: i64,
    what: &'static str,
) -> Result<Rotation, StorageError> {
    let revoked: Option<String> = on!(transaction.on(), |db| {
        sqlx::query_scalar(
            "UPDATE refresh_families SET revoked_at = $2 \
             WHERE revoked_at IS NULL \
               AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1 AND used_at IS NOT NULL) \
             RETURNING user_id",
        )
        .bind(token_hash)
        .bind(now)
        .fetch_optional(db)
        .await
    })
    .map_err(StorageError::during(what))?;
    Ok(revoked.map_or(Rotation::Refused, |user_id| Rotation::Reused { user_id }))
}
