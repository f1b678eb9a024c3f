//! Job items: taken, kept alive, and ended, each exactly once.
//!
//! For: workers. May touch: the tables `jobs` and `job_items`.
//! Promises: an attempt is counted when the item is taken, so that one which kills its worker counts as well; whoever
//! ends an item shows the worker and the attempt that took it, and a worker whose item was taken by another in the
//! meantime changes nothing. Why that holds: on `SQLite` one transaction writes at a time; on Postgres takers skip rows
//! that others have locked, and who waits for a row looks at it again before it is changed.
//! Read next: `worker/runner.rs`.

use sqlx::Row as _;

use super::engine::{Engine, Transaction, on, rows};
use super::jobs::{Ended, count_ended};
use super::{StorageError, Store};

/// Why an attempt failed whose worker has gone.
const LEFT: &str = "the worker ended in the middle of it";

/// Asked by each worker as often as `jobs.poll` says. Priority by priority, since the index has them in that order.
pub(super) const READY: &str = "\
    SELECT EXISTS (SELECT 1 FROM job_items WHERE status = 'queued' AND priority = 2 AND run_after <= $1) \
        OR EXISTS (SELECT 1 FROM job_items WHERE status = 'queued' AND priority = 1 AND run_after <= $1) \
        OR EXISTS (SELECT 1 FROM job_items WHERE status = 'queued' AND priority = 0 AND run_after <= $1)";

/// Takes an item that waits: `$which` says which one. `$lock` is what Postgres needs so that takers do not wait for each
/// other.
macro_rules! take {
    ($which:literal, $lock:literal) => {
        concat!(
            "UPDATE job_items SET status = 'running', attempts = attempts + 1, worker = $1, lease_until = $2, \
             started_at = $3 WHERE id = (SELECT id FROM job_items WHERE status = 'queued' AND run_after <= $3 ",
            $which,
            $lock,
            ") RETURNING id, job_id, attempts, run_after, request"
        )
    };
}

/// Finds an item whose worker has not been heard of in time.
macro_rules! lost {
    ($lock:literal) => {
        concat!(
            "SELECT id, job_id, attempts, worker FROM job_items \
             WHERE status = 'running' AND lease_until <= $1 ORDER BY lease_until LIMIT 1",
            $lock
        )
    };
}

pub(super) const TAKE_SQLITE: &str = take!("ORDER BY priority DESC, run_after, id LIMIT 1", "");
const TAKE_POSTGRES: &str = take!("ORDER BY priority DESC, run_after, id LIMIT 1", " FOR UPDATE SKIP LOCKED");
pub(super) const TAKE_NAMED_SQLITE: &str = take!("AND id = $4", "");
const TAKE_NAMED_POSTGRES: &str = take!("AND id = $4", " FOR UPDATE SKIP LOCKED");
pub(super) const LOST_SQLITE: &str = lost!("");
const LOST_POSTGRES: &str = lost!(" FOR UPDATE SKIP LOCKED");

/// An item that a worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenItem {
    /// The item.
    pub id: String,
    /// Its job.
    pub job_id: String,
    /// Whose job it is.
    pub owner: String,
    /// Which attempt this is, from 1.
    pub attempt: i64,
    /// When it could have been taken, in seconds.
    pub ready_at: i64,
    /// What it asks, in JSON.
    pub request: String,
    /// Where in the trace of its request the job was made, if the request was told of.
    pub traceparent: Option<String>,
}

/// What came of looking for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// One was taken.
    Taken(TakenItem),
    /// One was found whose job had been cancelled. It has ended.
    Cancelled,
    /// There is none.
    Nothing,
}

/// Who ends an item: only whoever took it last may.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The item.
    pub item_id: &'a str,
    /// Its job.
    pub job_id: &'a str,
    /// The worker that took it.
    pub worker: &'a str,
    /// The attempt it took it for.
    pub attempt: i64,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub enum ItemEnd<'a> {
    /// It was answered, with this JSON.
    Done(&'a str),
    /// It will never be answered, for this reason.
    Dead(&'a str),
    /// It failed for this reason, and waits until this second.
    Retry(&'a str, i64),
    /// It was not finished through no fault of its own: the attempt does not count.
    GivenBack,
}

/// What became of an item at the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFate {
    /// It waits again.
    Queued,
    /// It was answered.
    Done,
    /// It will never be answered.
    Dead,
    /// It would wait again, had its job not been cancelled.
    Cancelled,
}

struct Found {
    id: String,
    job_id: String,
    attempts: i64,
    run_after: i64,
    request: String,
}

struct Lost {
    id: String,
    job_id: String,
    attempts: i64,
    worker: String,
}

rows!(Found, |row| {
    Ok(Self {
        id: row.try_get("id")?,
        job_id: row.try_get("job_id")?,
        attempts: row.try_get("attempts")?,
        run_after: row.try_get("run_after")?,
        request: row.try_get("request")?,
    })
});

rows!(Lost, |row| {
    Ok(Self {
        id: row.try_get("id")?,
        job_id: row.try_get("job_id")?,
        attempts: row.try_get("attempts")?,
        worker: row.try_get("worker")?,
    })
});

impl Store {
    /// Whether an item could be taken now. It only reads, so that idle workers leave the write lock alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_item_is_ready(&self, now: i64) -> Result<bool, StorageError> {
        on!(self.read(), |db| sqlx::query_scalar::<_, bool>(READY).bind(now).fetch_one(db).await)
            .map_err(StorageError::during("job_item_is_ready"))
    }

    /// Whether an item was left by its worker.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_item_is_lost(&self, now: i64) -> Result<bool, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_scalar::<_, bool>(
                "SELECT EXISTS (SELECT 1 FROM job_items WHERE status = 'running' AND lease_until <= $1)",
            )
            .bind(now)
            .fetch_one(db)
            .await
        })
        .map_err(StorageError::during("job_item_is_lost"))
    }

    /// How many items wait, to be taken now or later.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_item_count_queued(&self) -> Result<i64, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_scalar("SELECT count(*) FROM job_items WHERE status = 'queued'").fetch_one(db).await
        })
        .map_err(StorageError::during("job_item_count_queued"))
    }

    /// Takes the next item for a worker until `lease_until`: the highest priority first, then who has waited longest.
    ///
    /// # Errors
    /// When the database fails; then nothing was taken.
    pub async fn job_item_take(&self, worker: &str, now: i64, lease_until: i64) -> Result<Take, StorageError> {
        const WHAT: &str = "job_item_take";
        let mut transaction = self.begin(WHAT).await?;
        let sql = by_engine(&mut transaction, TAKE_SQLITE, TAKE_POSTGRES);
        let found: Option<Found> = on!(transaction.on(), |db| {
            sqlx::query_as(sql).bind(worker).bind(lease_until).bind(now).fetch_optional(db).await
        })
        .map_err(StorageError::during(WHAT))?;
        take_found(transaction, found, worker, now, WHAT).await
    }

    /// Takes this very item for a worker until `lease_until`, if it waits and may be taken now.
    ///
    /// # Errors
    /// When the database fails; then nothing was taken.
    pub async fn job_item_take_named(
        &self,
        item_id: &str,
        worker: &str,
        now: i64,
        lease_until: i64,
    ) -> Result<Take, StorageError> {
        const WHAT: &str = "job_item_take_named";
        let mut transaction = self.begin(WHAT).await?;
        let sql = by_engine(&mut transaction, TAKE_NAMED_SQLITE, TAKE_NAMED_POSTGRES);
        let found: Option<Found> = on!(transaction.on(), |db| {
            sqlx::query_as(sql).bind(worker).bind(lease_until).bind(now).bind(item_id).fetch_optional(db).await
        })
        .map_err(StorageError::during(WHAT))?;
        take_found(transaction, found, worker, now, WHAT).await
    }

    /// Up to `limit` items of a job that wait and may be taken now, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_item_list_ready(&self, job_id: &str, now: i64, limit: u32) -> Result<Vec<String>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_scalar(
                "SELECT id FROM job_items WHERE job_id = $1 AND status = 'queued' AND run_after <= $2 \
                 ORDER BY position LIMIT $3",
            )
            .bind(job_id)
            .bind(now)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await
        })
        .map_err(StorageError::during("job_item_list_ready"))
    }

    /// Holds an item for longer; says whether it is still the worker's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_item_renew(&self, holder: Holder<'_>, lease_until: i64) -> Result<bool, StorageError> {
        on!(self.write(), |db| {
            sqlx::query(
                "UPDATE job_items SET lease_until = $4 \
                 WHERE id = $1 AND status = 'running' AND worker = $2 AND attempts = $3",
            )
            .bind(holder.item_id)
            .bind(holder.worker)
            .bind(holder.attempt)
            .bind(lease_until)
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
        })
        .map_err(StorageError::during("job_item_renew"))
    }

    /// Ends an attempt, and says what became of the item; `None` if it is no longer the worker's, and then nothing was
    /// changed. What should wait again ends as cancelled when its job was.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn job_item_end(
        &self,
        holder: Holder<'_>,
        end: ItemEnd<'_>,
        now: i64,
    ) -> Result<Option<ItemFate>, StorageError> {
        const WHAT: &str = "job_item_end";
        let mut transaction = self.begin(WHAT).await?;
        let fate = end_in(&mut transaction, holder, end, now).await.map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(fate)
    }

    /// Looks after one item whose worker was not heard of in time; `None` when there is none.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn job_item_reclaim(&self, attempts_max: u32, now: i64) -> Result<Option<ItemFate>, StorageError> {
        const WHAT: &str = "job_item_reclaim";
        let mut transaction = self.begin(WHAT).await?;
        let sql = by_engine(&mut transaction, LOST_SQLITE, LOST_POSTGRES);
        let lost: Option<Lost> = on!(transaction.on(), |db| sqlx::query_as(sql).bind(now).fetch_optional(db).await)
            .map_err(StorageError::during(WHAT))?;
        let Some(lost) = lost else { return Ok(None) };
        let Lost { id, job_id, attempts, worker } = &lost;
        let holder = Holder { item_id: id, job_id, worker, attempt: *attempts };
        let end = if *attempts >= i64::from(attempts_max) { ItemEnd::Dead(LEFT) } else { ItemEnd::Retry(LEFT, now) };
        let ended = end_in(&mut transaction, holder, end, now).await.map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(ended)
    }
}

/// Ends the taking of an item that was found: its job is told, and an item of a cancelled job ends.
async fn take_found(
    mut transaction: Transaction,
    found: Option<Found>,
    worker: &str,
    now: i64,
    what: &'static str,
) -> Result<Take, StorageError> {
    let Some(found) = found else { return Ok(Take::Nothing) };
    let (owner, cancelled_at, traceparent): (String, Option<i64>, Option<String>) = on!(transaction.on(), |db| {
        sqlx::query_as(
            "UPDATE jobs SET started_at = coalesce(started_at, $2), attempts = attempts + 1 WHERE id = $1 \
             RETURNING owner, cancelled_at, traceparent",
        )
        .bind(&found.job_id)
        .bind(now)
        .fetch_one(db)
        .await
    })
    .map_err(StorageError::during(what))?;
    let holder = Holder { item_id: &found.id, job_id: &found.job_id, worker, attempt: found.attempts };
    let taken = if cancelled_at.is_some() {
        cancel(&mut transaction, holder, now).await.map_err(StorageError::during(what))?;
        Take::Cancelled
    } else {
        let Found { id, job_id, attempts, run_after, request } = found;
        Take::Taken(TakenItem { id, job_id, owner, attempt: attempts, ready_at: run_after, request, traceparent })
    };
    transaction.commit(what).await?;
    Ok(taken)
}

/// The statement that this engine understands.
fn by_engine(transaction: &mut Transaction, sqlite: &'static str, postgres: &'static str) -> &'static str {
    match transaction.on() {
        Engine::Sqlite(_) => sqlite,
        Engine::Postgres(_) => postgres,
    }
}

/// Ends an attempt of whoever holds the item; `None`, and nothing is changed, if somebody else does.
async fn end_in(
    transaction: &mut Transaction,
    holder: Holder<'_>,
    end: ItemEnd<'_>,
    now: i64,
) -> Result<Option<ItemFate>, sqlx::Error> {
    let (status, result, error, run_after, uncounted, finished_at) = match end {
        ItemEnd::Done(result) => ("done", Some(result), None, None, 0_i64, Some(now)),
        ItemEnd::Dead(error) => ("dead", None, Some(error), None, 0, Some(now)),
        ItemEnd::Retry(error, run_after) => ("queued", None, Some(error), Some(run_after), 0, None),
        ItemEnd::GivenBack => ("queued", None, None, None, 1, None),
    };
    let is_ours: bool = on!(transaction.on(), |db| {
        sqlx::query(
            "UPDATE job_items SET status = $4, result = $5, error = coalesce($6, error), \
             run_after = coalesce($7, run_after), attempts = attempts - $8, finished_at = $9, \
             worker = NULL, lease_until = NULL \
             WHERE id = $1 AND status = 'running' AND worker = $2 AND attempts = $3",
        )
        .bind(holder.item_id)
        .bind(holder.worker)
        .bind(holder.attempt)
        .bind(status)
        .bind(result)
        .bind(error)
        .bind(run_after)
        .bind(uncounted)
        .bind(finished_at)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
    })?;
    if !is_ours {
        return Ok(None);
    }
    let (ended, fate) = match end {
        ItemEnd::Done(_) => (Ended { done: 1, ..Ended::default() }, ItemFate::Done),
        ItemEnd::Dead(_) => (Ended { dead: 1, ..Ended::default() }, ItemFate::Dead),
        ItemEnd::Retry(..) | ItemEnd::GivenBack => return after_return(transaction, holder, now).await.map(Some),
    };
    count_ended(transaction, holder.job_id, ended, now).await?;
    Ok(Some(fate))
}

/// An item waits again. When its job was cancelled meanwhile it ends instead; the job's row is locked by the question, so
/// that a cancellation comes before it or after all of this.
async fn after_return(transaction: &mut Transaction, holder: Holder<'_>, now: i64) -> Result<ItemFate, sqlx::Error> {
    let cancelled_at: Option<i64> = on!(transaction.on(), |db| {
        sqlx::query_scalar("UPDATE jobs SET total = total WHERE id = $1 RETURNING cancelled_at")
            .bind(holder.job_id)
            .fetch_one(db)
            .await
    })?;
    if cancelled_at.is_none() {
        return Ok(ItemFate::Queued);
    }
    cancel(transaction, holder, now).await?;
    Ok(ItemFate::Cancelled)
}

/// Ends an item that this transaction holds, as cancelled.
async fn cancel(transaction: &mut Transaction, holder: Holder<'_>, now: i64) -> Result<(), sqlx::Error> {
    on!(transaction.on(), |db| {
        sqlx::query(
            "UPDATE job_items SET status = 'cancelled', finished_at = $2, worker = NULL, lease_until = NULL \
             WHERE id = $1",
        )
        .bind(holder.item_id)
        .bind(now)
        .execute(db)
        .await
        .map(|_| ())
    })?;
    count_ended(transaction, holder.job_id, Ended { cancelled: 1, ..Ended::default() }, now).await
}
