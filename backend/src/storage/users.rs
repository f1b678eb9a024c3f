//! Users: who may log in.
//!
//! For: accounts by id and by name. May touch: the table `users`.
//! Promises: names are kept in lower case and are unique; a password is kept only as its hash.
//! Read next: `auth/users.rs`.

use std::fmt;

use common::access::Role;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row as _};

use super::{StorageError, Store};

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

impl FromRow<'_, SqliteRow> for UserRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let role: String = row.try_get("role")?;
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            password_hash: row.try_get("password_hash")?,
            role: role
                .parse()
                .map_err(|error| sqlx::Error::ColumnDecode { index: "role".into(), source: Box::new(error) })?,
            created_at: row.try_get("created_at")?,
        })
    }
}

impl Store {
    /// Keeps a new user.
    ///
    /// # Errors
    /// `StorageError::Taken` when the name is; else when the database fails.
    pub async fn user_create(&self, user: NewUser<'_>) -> Result<(), StorageError> {
        sqlx::query("INSERT INTO users (id, name, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(user.id)
            .bind(user.name)
            .bind(user.password_hash)
            .bind(user.role.as_str())
            .bind(user.created_at)
            .execute(&self.writer)
            .await
            .map(|_| ())
            .map_err(StorageError::during("user_create"))
    }

    /// Keeps a new user if there is none at all; says whether it did. One statement, so that of two processes which
    /// start at once only one does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_create_first(&self, user: NewUser<'_>) -> Result<bool, StorageError> {
        sqlx::query(
            "INSERT INTO users (id, name, password_hash, role, created_at) \
             SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT 1 FROM users)",
        )
        .bind(user.id)
        .bind(user.name)
        .bind(user.password_hash)
        .bind(user.role.as_str())
        .bind(user.created_at)
        .execute(&self.writer)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StorageError::during("user_create_first"))
    }

    /// Whether anybody may log in at all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_exists_any(&self) -> Result<bool, StorageError> {
        sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT 1 FROM users)")
            .fetch_one(&self.readers)
            .await
            .map_err(StorageError::during("user_exists_any"))
    }

    /// The user of this name, in lower case.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<UserRow>, StorageError> {
        sqlx::query_as("SELECT id, name, password_hash, role, created_at FROM users WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .map_err(StorageError::during("user_by_name"))
    }

    /// The user of this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_by_id(&self, id: &str) -> Result<Option<UserRow>, StorageError> {
        sqlx::query_as("SELECT id, name, password_hash, role, created_at FROM users WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(StorageError::during("user_by_id"))
    }

    /// Up to `limit` users whose ids come after `after`, in the order in which they were created.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_list(&self, after: Option<&str>, limit: u32) -> Result<Vec<UserRow>, StorageError> {
        sqlx::query_as(
            "SELECT id, name, password_hash, role, created_at FROM users WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.unwrap_or(""))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(StorageError::during("user_list"))
    }
}
