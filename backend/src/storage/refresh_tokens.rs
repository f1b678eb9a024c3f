//! Refresh tokens: used once, then replaced.
//!
//! For: families of refresh tokens. A login opens a family; each refresh spends the current token and adds the next.
//! May touch: the tables `refresh_families` and `refresh_tokens`. Promises: of two refreshes with one token exactly one
//! wins, also across processes; a spent token that is sent again revokes its family (RFC 9700 §4.14.2).
//! Why that holds: on `SQLite` one transaction writes at a time. On Postgres the statement that spends a token locks its
//! row; whoever meets the lock waits for the other's end and then looks at the row again, where `used_at` says that it
//! came second. A family that is revoked at that very moment may still get one token more, which nobody can spend.
//! Who changes a user locks the user's row, as whoever opens or goes on with a session does: a session has come to its
//! `Standing` before the change, which then ends it, or sees what the change has made of the user.
//! Read next: `auth/sessions.rs`.

use common::access::Role;
use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{Transaction, on, rows};
use super::{StorageError, Store, UserRow};

/// Asked at every refresh. The whole decision is one statement: whoever sets `used_at` has won.
pub(super) const SPEND: &str = "\
    UPDATE refresh_tokens SET used_at = $2 \
    WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 \
      AND EXISTS (SELECT 1 FROM refresh_families AS family \
                  WHERE family.id = refresh_tokens.family_id AND family.revoked_at IS NULL) \
    RETURNING family_id, \
      (SELECT user_id FROM refresh_families AS family WHERE family.id = refresh_tokens.family_id)";

/// Asked at every refresh and logout, before anything is written.
pub(super) const KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM refresh_tokens WHERE token_hash = $1)";

/// What a session of a user starts from, while what was read of `$2` holds.
macro_rules! standing {
    ($holds:literal) => {
        concat!(
            "SELECT role, (SELECT issued_until FROM withdrawals WHERE kind = 'subject' AND value = users.id) \
             AS issued_until FROM users WHERE id = $1 AND disabled_at IS NULL AND ",
            $holds
        )
    };
}

/// Asked at every login: the password is the one that was checked.
pub(super) const STANDING_AT_LOGIN: &str = standing!("password_hash = $2");

/// Asked at every refresh: the session was not ended.
pub(super) const STANDING_IN_FAMILY: &str =
    standing!("EXISTS (SELECT 1 FROM refresh_families AS family WHERE family.id = $2 AND family.revoked_at IS NULL)");

/// Deletes expired tokens.
const CLEAN: Batch = Batch {
    what: "refresh_tokens_clean",
    rows_max: 1_000,
    statement: "\
        DELETE FROM refresh_tokens WHERE token_hash IN \
        (SELECT token_hash FROM refresh_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
};

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

/// What a token may say of a user, at a moment at which nobody changes the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the user is.
    pub role: Role,
    /// The first second of issue that is not withdrawn.
    pub issued_from: i64,
}

/// What became of an attempt to refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The token was spent and the next one kept.
    Rotated {
        /// Whose it is.
        user_id: String,
        /// What the next access token may say.
        standing: Standing,
    },
    /// The token had been spent before: somebody has a copy. Its family is revoked now.
    Reused {
        /// Whose it was.
        user_id: String,
    },
    /// The token is unknown, expired or revoked, or its user may not come in any more.
    Refused,
}

rows!(Standing, |row| {
    let role: String = row.try_get("role")?;
    let issued_until: Option<i64> = row.try_get("issued_until")?;
    Ok(Self {
        role: role
            .parse()
            .map_err(|error| sqlx::Error::ColumnDecode { index: "role".into(), source: Box::new(error) })?,
        issued_from: issued_until.map_or(0, |until| until.saturating_add(1)),
    })
});

impl Store {
    /// Opens a family with its first token; `None`, and nothing is kept, when the user was disabled or given another
    /// password since `user` was read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_family_create(
        &self,
        family_id: &str,
        user: &UserRow,
        first: NewRefreshToken<'_>,
    ) -> Result<Option<Standing>, StorageError> {
        const WHAT: &str = "refresh_family_create";
        let mut transaction = self.begin(WHAT).await?;
        let standing = standing(&mut transaction, STANDING_AT_LOGIN, &user.id, &user.password_hash, WHAT).await?;
        if standing.is_none() {
            return Ok(None);
        }
        on!(transaction.on(), |db| {
            sqlx::query("INSERT INTO refresh_families (id, user_id, created_at) VALUES ($1, $2, $3)")
                .bind(family_id)
                .bind(&user.id)
                .bind(first.issued_at)
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(StorageError::during(WHAT))?;
        insert(&mut transaction, family_id, first, WHAT).await?;
        transaction.commit(WHAT).await?;
        Ok(standing)
    }

    /// Whether a token with this hash is kept, whatever became of it. It only reads, so that who sends what never was a
    /// token keeps nobody from writing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refresh_token_is_known(&self, token_hash: &[u8]) -> Result<bool, StorageError> {
        on!(self.read(), |db| sqlx::query_scalar::<_, bool>(KNOWN).bind(token_hash).fetch_one(db).await)
            .map_err(StorageError::during("refresh_token_is_known"))
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
                let standing = standing(&mut transaction, STANDING_IN_FAMILY, &user_id, &family_id, WHAT).await?;
                // The token stays as it was: who may not come in, or has logged out by now, spends nothing.
                let Some(standing) = standing else { return Ok(Rotation::Refused) };
                insert(&mut transaction, &family_id, next, WHAT).await?;
                Rotation::Rotated { user_id, standing }
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
        let Some(mut transaction) = self.begin_cleaning(CLEAN.what).await? else { return Ok(false) };
        let is_full = CLEAN.delete(&mut transaction, now).await?;
        // A family is made together with its first token, so that one without any has come to its end.
        on!(transaction.on(), |db| {
            sqlx::query(
                "DELETE FROM refresh_families WHERE id IN (SELECT family.id FROM refresh_families AS family \
                 WHERE NOT EXISTS (SELECT 1 FROM refresh_tokens AS token WHERE token.family_id = family.id) LIMIT $1)",
            )
            .bind(CLEAN.rows_max)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(StorageError::during(CLEAN.what))?;
        transaction.commit(CLEAN.what).await?;
        Ok(is_full)
    }
}

/// Waits for whoever changes the user, and reads what is true then, in a statement of its own: one that has waited itself
/// may see parts of what was before.
async fn standing(
    transaction: &mut Transaction,
    statement: &'static str,
    user_id: &str,
    known: &str,
    what: &'static str,
) -> Result<Option<Standing>, StorageError> {
    transaction.lock_user(user_id).await.map_err(StorageError::during(what))?;
    on!(transaction.on(), |db| sqlx::query_as(statement).bind(user_id).bind(known).fetch_optional(db).await)
        .map_err(StorageError::during(what))
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
