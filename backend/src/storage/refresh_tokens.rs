//! Refresh tokens: used once, then replaced.
//!
//! For: families of refresh tokens. A login opens a family; each refresh spends the current token and adds the next.
//! May touch: the tables `refresh_families` and `refresh_tokens`. Promises: of two refreshes with one token exactly one
//! wins, also across processes; a spent token that is sent again revokes its family (RFC 9700 §4.14.2).
//! Read next: `auth/sessions.rs`.

use super::{StorageError, Store, commit};

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
        sqlx::query("INSERT INTO refresh_families (id, user_id, created_at) VALUES ($1, $2, $3)")
            .bind(family_id)
            .bind(user_id)
            .bind(first.issued_at)
            .execute(&mut *transaction)
            .await
            .map_err(StorageError::during(WHAT))?;
        insert(&mut transaction, family_id, first, WHAT).await?;
        commit(WHAT, transaction).await
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
        // The whole decision is one statement: whoever sets `used_at` has won.
        let spent: Option<(String, String)> = sqlx::query_as(
            "UPDATE refresh_tokens SET used_at = $2 \
             WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 \
               AND EXISTS (SELECT 1 FROM refresh_families AS family \
                           WHERE family.id = refresh_tokens.family_id AND family.revoked_at IS NULL) \
             RETURNING family_id, \
               (SELECT user_id FROM refresh_families AS family WHERE family.id = refresh_tokens.family_id)",
        )
        .bind(token_hash)
        .bind(next.issued_at)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StorageError::during(WHAT))?;
        let outcome = match spent {
            Some((family_id, user_id)) => {
                insert(&mut transaction, &family_id, next, WHAT).await?;
                Rotation::Rotated { user_id }
            }
            None => revoke_if_reused(&mut transaction, token_hash, next.issued_at, WHAT).await?,
        };
        commit(WHAT, transaction).await?;
        Ok(outcome)
    }

    /// Revokes the family of the token with this hash; says whose it was, or `None` when there was nothing to revoke.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_family_revoke(&self, token_hash: &[u8], now: i64) -> Result<Option<String>, StorageError> {
        sqlx::query_scalar(
            "UPDATE refresh_families SET revoked_at = $2 \
             WHERE revoked_at IS NULL AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1) \
             RETURNING user_id",
        )
        .bind(token_hash)
        .bind(now)
        .fetch_optional(&self.writer)
        .await
        .map_err(StorageError::during("refresh_family_revoke"))
    }

    /// Deletes tokens that have expired, and families that have none left, a bounded number at a time. Says how many
    /// tokens went; as long as that is the bound, there may be more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_tokens_clean(&self, now: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "refresh_tokens_clean";
        let mut transaction = self.begin(WHAT).await?;
        let tokens = sqlx::query(
            "DELETE FROM refresh_tokens WHERE token_hash IN \
             (SELECT token_hash FROM refresh_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
        )
        .bind(now)
        .bind(CLEAN_ROWS_MAX)
        .execute(&mut *transaction)
        .await
        .map_err(StorageError::during(WHAT))?;
        sqlx::query(
            "DELETE FROM refresh_families WHERE id IN (SELECT family.id FROM refresh_families AS family \
             WHERE NOT EXISTS (SELECT 1 FROM refresh_tokens AS token WHERE token.family_id = family.id) LIMIT $1)",
        )
        .bind(CLEAN_ROWS_MAX)
        .execute(&mut *transaction)
        .await
        .map_err(StorageError::during(WHAT))?;
        commit(WHAT, transaction).await?;
        Ok(i64::try_from(tokens.rows_affected()).is_ok_and(|gone| gone >= CLEAN_ROWS_MAX))
    }
}

async fn insert(
    connection: &mut sqlx::SqliteConnection,
    family_id: &str,
    token: NewRefreshToken<'_>,
    what: &'static str,
) -> Result<(), StorageError> {
    sqlx::query("INSERT INTO refresh_tokens (token_hash, family_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(token.token_hash)
        .bind(family_id)
        .bind(token.issued_at)
        .bind(token.expires_at)
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(StorageError::during(what))
}

/// The token could not be spent. When that is because it had been, its family is revoked.
async fn revoke_if_reused(
    connection: &mut sqlx::SqliteConnection,
    token_hash: &[u8],
    now: i64,
    what: &'static str,
) -> Result<Rotation, StorageError> {
    let revoked: Option<String> = sqlx::query_scalar(
        "UPDATE refresh_families SET revoked_at = $2 \
         WHERE revoked_at IS NULL \
           AND id = (SELECT family_id FROM refresh_tokens WHERE token_hash = $1 AND used_at IS NOT NULL) \
         RETURNING user_id",
    )
    .bind(token_hash)
    .bind(now)
    .fetch_optional(connection)
    .await
    .map_err(StorageError::during(what))?;
    Ok(revoked.map_or(Rotation::Refused, |user_id| Rotation::Reused { user_id }))
}
