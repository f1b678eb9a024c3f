//! Idempotency: requests that were done under a key of the client's, so that they are not done again.
//!
//! For: making users and API keys. May touch: the table `idempotent_requests`.
//! Promises: a request is noted in the transaction that does it, so that it is both or neither; of two under one key at
//! once the second waits for the first and then finds it; no secret is kept but as its slow hash; what is older than
//! `KEPT_SECONDS` counts for nothing and is deleted, a bounded number at a time.
//! Read next: `auth/idempotency.rs`.

use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{Transaction, on, rows};
use super::{StorageError, Store};
use crate::base::time::DAY_SECONDS;

/// How long a request is known by its key, in seconds.
const KEPT_SECONDS: i64 = DAY_SECONDS;

/// Deletes requests that are not known any more.
const CLEAN: Batch = Batch {
    what: "requests_clean",
    rows_max: 1_000,
    statement: "\
        DELETE FROM idempotent_requests WHERE (subject, route, key) IN \
        (SELECT subject, route, key FROM idempotent_requests WHERE at <= $1 ORDER BY at LIMIT $2)",
};

/// By what a request is known.
#[derive(Clone, Copy, Debug)]
pub struct RequestKey<'a> {
    /// Whose key it is: a user's id.
    pub subject: &'a str,
    /// What was asked, in a word.
    pub route: &'static str,
    /// The client's key.
    pub key: &'a str,
}

/// A request to be noted.
#[derive(Clone, Copy)]
pub struct NewRequest<'a> {
    /// By what it is known.
    pub key: RequestKey<'a>,
    /// SHA-256 of what it held, secrets left out.
    pub body_hash: &'a [u8],
    /// Of the password it held, in PHC form.
    pub secret_hash: Option<&'a str>,
    /// What it was answered with; nothing secret.
    pub answer: &'a str,
    /// In seconds.
    pub at: i64,
}

/// A request that was done.
pub struct RequestRow {
    /// SHA-256 of what it held, secrets left out.
    pub body_hash: Vec<u8>,
    /// Of the password it held, in PHC form.
    pub secret_hash: Option<String>,
    /// What it was answered with.
    pub answer: String,
}

rows!(RequestRow, |row| {
    Ok(Self {
        body_hash: row.try_get("body_hash")?,
        secret_hash: row.try_get("secret_hash")?,
        answer: row.try_get("answer")?,
    })
});

impl Store {
    /// The request that was done under this key, if one was.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn request_by_key(&self, key: RequestKey<'_>, now: i64) -> Result<Option<RequestRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(
                "SELECT body_hash, secret_hash, answer FROM idempotent_requests \
                 WHERE subject = $1 AND route = $2 AND key = $3 AND at > $4",
            )
            .bind(key.subject)
            .bind(key.route)
            .bind(key.key)
            .bind(now.saturating_sub(KEPT_SECONDS))
            .fetch_optional(db)
            .await
        })
        .map_err(StorageError::during("request_by_key"))
    }

    /// Deletes what counts for nothing any more, a bounded number at a time, unless another process is cleaning. Says
    /// whether there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn requests_clean(&self, now: i64) -> Result<bool, StorageError> {
        self.clean(CLEAN, now.saturating_sub(KEPT_SECONDS)).await
    }
}

/// Notes a request within the transaction that does it; says whether it did, or there is one under this key already.
pub(super) async fn note_in(
    transaction: &mut Transaction,
    request: NewRequest<'_>,
    what: &'static str,
) -> Result<bool, StorageError> {
    // One that counts for nothing any more makes room.
    on!(transaction.on(), |db| {
        sqlx::query(
            "INSERT INTO idempotent_requests (subject, route, key, body_hash, secret_hash, answer, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (subject, route, key) DO UPDATE SET body_hash = excluded.body_hash, \
               secret_hash = excluded.secret_hash, answer = excluded.answer, at = excluded.at \
             WHERE idempotent_requests.at <= $8",
        )
        .bind(request.key.subject)
        .bind(request.key.route)
        .bind(request.key.key)
        .bind(request.body_hash)
        .bind(request.secret_hash)
        .bind(request.answer)
        .bind(request.at)
        .bind(request.at.saturating_sub(KEPT_SECONDS))
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
    })
    .map_err(StorageError::during(what))
}
