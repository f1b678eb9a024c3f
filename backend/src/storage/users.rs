//! Users: who may log in.
//!
//! For: accounts by id and by name. May touch: the table `users`; what a change ends besides, in `refresh_families`,
//! `jobs` and `withdrawals`.
//! Promises: names are kept in lower case and are unique; a password is kept only as its hash; whoever makes or changes a
//! user administers at that very moment, whatever their token says.
//! Read next: `auth/users.rs`.

use std::fmt;

use common::access::{Permission, Role};
use sqlx::Row as _;

use super::engine::{Transaction, Turn, on, rows};
use super::idempotency::note_in;
use super::withdrawals::withdraw_in;
use super::{NewRequest, StorageError, Store, Withdrawal};

/// Asked at every login.
pub(super) const BY_NAME: &str =
    "SELECT id, name, password_hash, role, created_at, disabled_at FROM users WHERE name = $1";

/// Asked at every request for one user.
pub(super) const BY_ID: &str =
    "SELECT id, name, password_hash, role, created_at, disabled_at FROM users WHERE id = $1";

/// Ends every session of a user.
const END_SESSIONS: &str = "UPDATE refresh_families SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL";

/// Cancels every job of a user. It only marks them, as `job_cancel` does first: workers end their items, and only jobs'
/// rows are locked here, so that whoever holds one waits for nothing of ours.
const END_JOBS: &str =
    "UPDATE jobs SET cancelled_at = $2 WHERE owner = $1 AND finished_at IS NULL AND cancelled_at IS NULL";

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

/// What became of an attempt to make a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserMade {
    /// The user is kept.
    Made,
    /// There is a request under this key already.
    Known,
    /// Whoever asked for it does not administer any more.
    NotAllowed,
}

/// What became of an attempt to change a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChanged<'e> {
    /// The user as changed, and what was withdrawn, as it is kept.
    Changed(UserRow, Withdrawal<'e>),
    /// The role is another by now.
    Otherwise,
    /// Whoever asked for it does not administer any more.
    NotAllowed,
    /// There is no such user.
    NotThere,
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
    /// Keeps a new user, on behalf of whoever runs the program.
    ///
    /// # Errors
    /// `StorageError::Taken` when the name is; else when the database fails.
    pub async fn user_create(&self, user: NewUser<'_>) -> Result<(), StorageError> {
        const WHAT: &str = "user_create";
        let mut transaction = self.begin(WHAT).await?;
        insert(&mut transaction, user, WHAT).await?;
        transaction.commit(WHAT).await
    }

    /// Keeps a new user, on behalf of the one with the id `by`, and notes the request that asked for it, where it has a
    /// key.
    ///
    /// # Errors
    /// `StorageError::Taken` when the name is; else when the database fails. Then nothing was kept.
    pub async fn user_create_for(
        &self,
        user: NewUser<'_>,
        by: &str,
        request: Option<NewRequest<'_>>,
    ) -> Result<UserMade, StorageError> {
        const WHAT: &str = "user_create_for";
        let mut transaction = self.begin(WHAT).await?;
        if !administers(&mut transaction, by).await.map_err(StorageError::during(WHAT))? {
            return Ok(UserMade::NotAllowed);
        }
        if let Some(request) = request
            && !note_in(&mut transaction, request, WHAT).await?
        {
            return Ok(UserMade::Known);
        }
        insert(&mut transaction, user, WHAT).await?;
        transaction.commit(WHAT).await?;
        Ok(UserMade::Made)
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
        on!(self.read(), |db| sqlx::query_as(BY_ID).bind(id).fetch_optional(db).await)
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

    /// Changes a user who is `was`, on behalf of the one with the id `by`, and withdraws in the same step `ended`, the tokens issued until now.
    /// It is asked for only once nobody else can change the user or give them a token, so that what was issued before is a
    /// part of it.
    /// Who is disabled or gets another password loses every session as well, and of who may ask nothing any more no query
    /// of a batch is begun.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn user_change<'e>(
        &self,
        id: &str,
        was: Role,
        by: &str,
        change: UserChange<'_>,
        ended: impl FnOnce() -> Withdrawal<'e> + Send,
    ) -> Result<UserChanged<'e>, StorageError> {
        const WHAT: &str = "user_change";
        let mut transaction = self.begin(WHAT).await?;
        // Of two administrators who shut each other out at the same moment, one comes second, and is none by then.
        transaction.take_turn(Turn::Withdrawing).await.map_err(StorageError::during(WHAT))?;
        if !administers(&mut transaction, by).await.map_err(StorageError::during(WHAT))? {
            return Ok(UserChanged::NotAllowed);
        }
        transaction.lock_user(id).await.map_err(StorageError::during(WHAT))?;
        let ended = ended();
        let now = ended.issued_until;
        let found = user_in(&mut transaction, id).await.map_err(StorageError::during(WHAT))?;
        let Some(user) = found else { return Ok(UserChanged::NotThere) };
        if user.role != was {
            return Ok(UserChanged::Otherwise);
        }
        let changed: UserRow = on!(transaction.on(), |db| {
            sqlx::query_as(CHANGE)
                .bind(id)
                .bind(change.role.map(Role::as_str))
                .bind(change.password_hash)
                .bind(change.disabled.map(i64::from))
                .bind(now)
                .fetch_one(db)
                .await
        })
        .map_err(StorageError::during(WHAT))?;
        if change.password_hash.is_some() || change.disabled == Some(true) {
            end_at(&mut transaction, END_SESSIONS, id, now).await.map_err(StorageError::during(WHAT))?;
        }
        if !changed.may(Permission::Execute) {
            end_at(&mut transaction, END_JOBS, id, now).await.map_err(StorageError::during(WHAT))?;
        }
        let ended = withdraw_in(&mut transaction, ended, WHAT).await?;
        transaction.commit(WHAT).await?;
        Ok(UserChanged::Changed(changed, ended))
    }
}

impl UserRow {
    /// Whether the user may come in, and do this.
    fn may(&self, permission: Permission) -> bool {
        self.disabled_at.is_none() && self.role.permissions().contains(&permission)
    }
}

async fn user_in(transaction: &mut Transaction, id: &str) -> Result<Option<UserRow>, sqlx::Error> {
    on!(transaction.on(), |db| sqlx::query_as(BY_ID).bind(id).fetch_optional(db).await)
}

/// Whether the user of this id administers, whatever their token says. It stays so until the transaction ends.
async fn administers(transaction: &mut Transaction, id: &str) -> Result<bool, sqlx::Error> {
    transaction.lock_user(id).await?;
    Ok(user_in(transaction, id).await?.is_some_and(|user| user.may(Permission::Admin)))
}

/// Ends something of a user's.
async fn end_at(
    transaction: &mut Transaction,
    statement: &'static str,
    id: &str,
    now: i64,
) -> Result<(), sqlx::Error> {
    on!(transaction.on(), |db| sqlx::query(statement).bind(id).bind(now).execute(db).await.map(|_| ()))
}

/// Keeps a new user within a transaction.
async fn insert(transaction: &mut Transaction, user: NewUser<'_>, what: &'static str) -> Result<(), StorageError> {
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
    .map_err(StorageError::during(what))
}
