//! Users: who may log in.
//!
//! For: accounts by id and by name. May touch: the table `users`; what a change ends besides, in `refresh_families` and
//! `withdrawals`.
//! Promises: names are kept in lower case and are unique; a password is kept only as its hash.
//! Read next: `auth/users.rs`.

use std::fmt;

use common::access::Role;
use sqlx::Row as _;

use super::engine::{Turn, on, rows};
use super::idempotency::note_in;
use super::withdrawals::withdraw_in;
use super::{NewRequest, StorageError, Store, Withdrawal};

/// Asked at every login.
pub(super) const BY_NAME: &str =
    "SELECT id, name, password_hash, role, created_at, disabled_at FROM users WHERE name = $1";

/// Changes what is not null; who is disabled already keeps the time.
const CHANGE: &str = "\
    UPDATE users SET role = coalesce($2, role), password_hash = coalesce($3, password_hash), \
      disabled_at = CASE $4 WHEN 1 THEN coalesce(disabled_at, $5) WHEN 0 THEN NULL ELSE disabled_at END \
    WHERE id = $1 RETURNING id, name, password_hash, role, created_at, disabled_at";

/// A user, as kept.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The stable id.
    pub id: String,
    /// In lower case.
    pub name: String,
    /// In PHC form.
    pub password_hash: String,
    /// What the user is.
    pub role: Role,
    /// In seconds.
    pub created_at: i64,
    /// In seconds; not disabled, if `None`.
    pub disabled_at: Option<i64>,
}

/// What changes of a user. What is `None` stays.
#[derive(Clone, Copy, Default)]
pub struct UserChange<'a> {
    /// What the user is.
    pub role: Option<Role>,
    /// In PHC form.
    pub password_hash: Option<&'a str>,
    /// Whether the user is kept out.
    pub disabled: Option<bool>,
}

/// A user to be kept.
#[derive(Clone, Copy)]
pub struct NewUser<'a> {
    /// The stable id.
    pub id: &'a str,
    /// In lower case.
    pub name: &'a str,
    /// In PHC form.
    pub password_hash: &'a str,
    /// What the user is.
    pub role: Role,
    /// In seconds.
    pub created_at: i64,
}

/// A password hash is worth guessing at, so it does not print.
impl fmt::Debug for UserRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserRow")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

rows!(UserRow, |row| {
    let role: String = row.try_get("role")?;
    Ok(Self {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        password_hash: row.try_get("password_hash")?,
        role: role
            .parse()
            .map_err(|error| sqlx::Error::ColumnDecode { index: "role".into(), source: Box::new(error) })?,
        created_at: row.try_get("created_at")?,
        disabled_at: row.try_get("disabled_at")?,
    })
});

impl Store {
    /// Keeps a new user.
    ///
    /// # Errors
    /// `StorageError::Taken` when the name is; else when the database fails.
    pub async fn user_create(&self, user: NewUser<'_>) -> Result<(), StorageError> {
        on!(self.write(), |db| {
            sqlx::query("INSERT INTO users (id, name, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)")
                .bind(user.id)
                .bind(user.name)
                .bind(user.password_hash)
                .bind(user.role.as_str())
                .bind(user.created_at)
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(StorageError::during("user_create"))
    }

    /// Keeps a new user, and notes the request that asked for it; says whether it did, or there is a request under this
    /// key already.
    ///
    /// # Errors
    /// `StorageError::Taken` when the name is; else when the database fails. Then nothing was kept.
    pub async fn user_create_once(&self, user: NewUser<'_>, request: NewRequest<'_>) -> Result<bool, StorageError> {
        const WHAT: &str = "user_create_once";
        let mut transaction = self.begin(WHAT).await?;
        if !note_in(&mut transaction, request, WHAT).await? {
            return Ok(false);
        }
        on!(transaction.on(), |db| {
            sqlx::query("INSERT INTO users (id, name, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)")
                .bind(user.id)
                .bind(user.name)
                .bind(user.password_hash)
                .bind(user.role.as_str())
                .bind(user.created_at)
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(true)
    }

    /// Keeps a new user if there is none at all; says whether it did. Of processes that start at once only one does:
    /// the others wait for their turn, and then see what the first has made. Who makes a user in another way at the
    /// same time comes before all of this, or after.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_create_first(&self, user: NewUser<'_>) -> Result<bool, StorageError> {
        const WHAT: &str = "user_create_first";
        let mut transaction = self.begin(WHAT).await?;
        transaction.take_turn(Turn::FirstUser).await.map_err(StorageError::during(WHAT))?;
        // On Postgres, a user of this name could still be on the way in: that is a conflict, and no first user either.
        let kept = on!(transaction.on(), |db| {
            sqlx::query(
                "INSERT INTO users (id, name, password_hash, role, created_at) \
                 SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM users) ON CONFLICT DO NOTHING",
            )
            .bind(user.id)
            .bind(user.name)
            .bind(user.password_hash)
            .bind(user.role.as_str())
            .bind(user.created_at)
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
        })
        .map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(kept)
    }

    /// Whether anybody may log in at all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_exists_any(&self) -> Result<bool, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT 1 FROM users)").fetch_one(db).await
        })
        .map_err(StorageError::during("user_exists_any"))
    }

    /// The user of this name, in lower case.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>, StorageError> {
        on!(self.read(), |db| sqlx::query_as(BY_NAME).bind(name).fetch_optional(db).await)
            .map_err(StorageError::during("user_by_name"))
    }

    /// The user of this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_by_id(&self, id: &str) -> Result<Option<UserRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as("SELECT id, name, password_hash, role, created_at, disabled_at FROM users WHERE id = $1")
                .bind(id)
                .fetch_optional(db)
                .await
        })
        .map_err(StorageError::during("user_by_id"))
    }

    /// Up to `limit` users whose ids come after `after`, in the order in which they were created.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_list(&self, after: Option<&str>, limit: u32) -> Result<Vec<UserRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(
                "SELECT id, name, password_hash, role, created_at, disabled_at FROM users \
                 WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await
        })
        .map_err(StorageError::during("user_list"))
    }

    /// Changes a user, and withdraws in the same step `ended`, the tokens issued until now. Who is disabled or gets
    /// another password loses every session as well. Gives the user as changed, or `None` when there is none.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn user_change(
        &self,
        id: &str,
        change: UserChange<'_>,
        ended: Withdrawal<'_>,
        now: i64,
    ) -> Result<Option<UserRow>, StorageError> {
        const WHAT: &str = "user_change";
        let mut transaction = self.begin(WHAT).await?;
        let changed: Option<UserRow> = on!(transaction.on(), |db| {
            sqlx::query_as(CHANGE)
                .bind(id)
                .bind(change.role.map(Role::as_str))
                .bind(change.password_hash)
                .bind(change.disabled.map(i64::from))
                .bind(now)
                .fetch_optional(db)
                .await
        })
        .map_err(StorageError::during(WHAT))?;
        if changed.is_none() {
            return Ok(None);
        }
        if change.password_hash.is_some() || change.disabled == Some(true) {
            on!(transaction.on(), |db| {
                sqlx::query("UPDATE refresh_families SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL")
                    .bind(id)
                    .bind(now)
                    .execute(db)
                    .await
                    .map(|_| ())
            })
            .map_err(StorageError::during(WHAT))?;
        }
        withdraw_in(&mut transaction, ended, WHAT).await?;
        transaction.commit(WHAT).await?;
        Ok(changed)
    }
}
