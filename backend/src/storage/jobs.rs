//! Jobs: batches of queries, and how far they have come.
//!
//! For: making, showing, cancelling, requeuing and forgetting jobs. May touch: the tables `jobs` and `job_items`.
//! Promises: a job's counts change in the transaction that ends an item, so that they always add up; one idempotency key
//! of one owner makes one job, also across processes; an item of a cancelled job is never begun after the cancellation.
//! Why the locks cannot go in a circle: on Postgres a transaction locks items first and one job's row last. The one that
//! forgets jobs goes the other way; it meets only whoever requeues a job at the end of its time, who is told to try again.
//! Read next: `job_items.rs`, which takes and ends items.

use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{Transaction, on, rows};
use super::{StorageError, Store};
use crate::base::ids;

/// Deletes finished jobs, with all their items.
const CLEAN: Batch = Batch {
    what: "jobs_clean",
    rows_max: 100,
    statement: "\
        DELETE FROM jobs \
        WHERE id IN (SELECT id FROM jobs WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)",
};

/// Reads jobs. The columns are named one by one: a `*` that Postgres has prepared is refused as soon as a newer program
/// has added one to the table.
macro_rules! jobs {
    ($which:literal) => {
        concat!(
            "SELECT id, owner, priority, body_hash, created_at, started_at, cancelled_at, finished_at, total, \
                    done, dead, cancelled, attempts FROM jobs WHERE ",
            $which
        )
    };
}

const BY_ID: &str = jobs!("id = $1 AND ($2 IS NULL OR owner = $2)");
const BY_KEY: &str = jobs!("owner = $1 AND idempotency_key = $2");

/// Lists. Each names a column only where it filters, so that an index serves it; both name all parameters, so that one
/// binding fits.
pub(super) const OF_OWNER: &str = jobs!("owner = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
pub(super) const OF_ALL: &str = jobs!("$1 = '' AND id < $2 ORDER BY id DESC LIMIT $3");

/// How many items of an owner have not ended, besides those of one job.
pub(super) const UNFINISHED: &str = "\
    SELECT CAST(coalesce(sum(total - done - dead - cancelled), 0) AS BIGINT) FROM jobs \
    WHERE owner = $1 AND finished_at IS NULL AND id <> $2";

/// Sorts after every id.
const AFTER_ALL: &str = "~";

/// A job, as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Sorts by creation.
    pub id: String,
    /// The subject of whoever asked.
    pub owner: String,
    /// Higher ones are taken first.
    pub priority: i64,
    /// SHA-256 of what was asked.
    pub body_hash: Vec<u8>,
    /// In seconds, as all times here.
    pub created_at: i64,
    /// When an item was first taken.
    pub started_at: Option<i64>,
    /// No item is begun after this.
    pub cancelled_at: Option<i64>,
    /// When the last item ended.
    pub finished_at: Option<i64>,
    /// Items.
    pub total: i64,
    /// Items that were answered.
    pub done: i64,
    /// Items that will not be answered.
    pub dead: i64,
    /// Items that were never answered, because the job was cancelled.
    pub cancelled: i64,
    /// How often its items were taken.
    pub attempts: i64,
}

/// An item of a job, as its owner may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobItemRow {
    /// Its place in the batch, from 0.
    pub position: i64,
    /// queued, running, done, dead or cancelled.
    pub status: String,
    /// How often it was taken.
    pub attempts: i64,
    /// Not before this second.
    pub run_after: i64,
    /// When it was last taken.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// JSON.
    pub result: Option<String>,
    /// What its last attempt that failed said.
    pub error: Option<String>,
}

/// A job to be kept.
#[derive(Clone, Copy, Debug)]
pub struct NewJob<'a> {
    /// Sorts by creation.
    pub id: &'a str,
    /// The subject of whoever asks.
    pub owner: &'a str,
    /// Higher ones are taken first.
    pub priority: i64,
    /// What the owner calls this very request.
    pub idempotency_key: Option<&'a str>,
    /// SHA-256 of what is asked.
    pub body_hash: &'a [u8],
    /// In seconds.
    pub created_at: i64,
    /// Where in the trace of its request it is made, if the request is told of.
    pub traceparent: Option<&'a str>,
    /// What each item asks, in JSON.
    pub requests: &'a [String],
}

/// How many items there may be before no job is made any more.
#[derive(Clone, Copy, Debug)]
pub struct QueueRoom {
    /// Items that wait, of everybody together.
    pub queued_max: u32,
    /// Items of the job's owner that have not ended.
    pub owner_max: u32,
}

/// What became of an attempt to make a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobMade {
    /// It was made.
    Made(JobRow),
    /// The owner has used this idempotency key before, for this job.
    Known(JobRow),
    /// As many items wait as may.
    Full,
    /// As many of the owner's items have not ended as may.
    OwnerFull,
}

rows!(JobRow, |row| {
    Ok(Self {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        priority: row.try_get("priority")?,
        body_hash: row.try_get("body_hash")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        cancelled_at: row.try_get("cancelled_at")?,
        finished_at: row.try_get("finished_at")?,
        total: row.try_get("total")?,
        done: row.try_get("done")?,
        dead: row.try_get("dead")?,
        cancelled: row.try_get("cancelled")?,
        attempts: row.try_get("attempts")?,
    })
});

rows!(JobItemRow, |row| {
    Ok(Self {
        position: row.try_get("position")?,
        status: row.try_get("status")?,
        attempts: row.try_get("attempts")?,
        run_after: row.try_get("run_after")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        result: row.try_get("result")?,
        error: row.try_get("error")?,
    })
});

impl Store {
    /// Keeps a new job with its items, unless its idempotency key is known or there is no room. What is being made at the
    /// same moment is not counted.
    ///
    /// # Errors
    /// When the database fails; then nothing was kept.
    pub async fn job_create(&self, job: NewJob<'_>, room: QueueRoom) -> Result<JobMade, StorageError> {
        const WHAT: &str = "job_create";
        let mut transaction = self.begin(WHAT).await?;
        // On Postgres, whoever uses the same key at the same time waits here for the other's end.
        if !insert_job(&mut transaction, job).await.map_err(StorageError::during(WHAT))? {
            let known = job_of_key(&mut transaction, job).await.map_err(StorageError::during(WHAT))?;
            return known.map(JobMade::Known).ok_or(StorageError::Taken { what: WHAT });
        }
        if let Some(full) = full_in(&mut transaction, job, room).await.map_err(StorageError::during(WHAT))? {
            return Ok(full);
        }
        for (position, request) in (0_i64..).zip(job.requests) {
            insert_item(&mut transaction, job, position, request).await.map_err(StorageError::during(WHAT))?;
        }
        let made = job_in(&mut transaction, job.id).await.map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(JobMade::Made(made))
    }

    /// The job of this id; `owner` limits that to the jobs of one subject.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_by_id(&self, id: &str, owner: Option<&str>) -> Result<Option<JobRow>, StorageError> {
        on!(self.read(), |db| sqlx::query_as(BY_ID).bind(id).bind(owner).fetch_optional(db).await)
            .map_err(StorageError::during("job_by_id"))
    }

    /// Up to `limit` jobs that were made before the one with the id `before`, the latest first; `owner` limits that to
    /// the jobs of one subject.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_list(
        &self,
        owner: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(if owner.is_some() { OF_OWNER } else { OF_ALL })
                .bind(owner.unwrap_or(""))
                .bind(before.unwrap_or(AFTER_ALL))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await
        })
        .map_err(StorageError::during("job_list"))
    }

    /// Up to `limit` items of a job from this place on, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_item_list(&self, job_id: &str, from: i64, limit: u32) -> Result<Vec<JobItemRow>, StorageError> {
        on!(self.read(), |db| {
            sqlx::query_as(
                "SELECT position, status, attempts, run_after, started_at, finished_at, result, error \
                 FROM job_items WHERE job_id = $1 AND position >= $2 ORDER BY position LIMIT $3",
            )
            .bind(job_id)
            .bind(from)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await
        })
        .map_err(StorageError::during("job_item_list"))
    }

    /// Cancels a job: items that wait end at once, those under way are finished. A job that has ended stays as it is.
    ///
    /// # Errors
    /// When the database fails. The job may be marked then: workers end its items when they come to them.
    pub async fn job_cancel(&self, id: &str, now: i64) -> Result<(), StorageError> {
        const WHAT: &str = "job_cancel";
        // The mark comes first and by itself: an item that is given back from now on is ended by who gives it back, and
        // one that was given back before is seen by the second statement.
        on!(self.write(), |db| {
            sqlx::query(
                "UPDATE jobs SET cancelled_at = $2 WHERE id = $1 AND finished_at IS NULL AND cancelled_at IS NULL",
            )
            .bind(id)
            .bind(now)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(StorageError::during(WHAT))?;
        let mut transaction = self.begin(WHAT).await?;
        let ended: u64 = on!(transaction.on(), |db| {
            sqlx::query(
                "UPDATE job_items SET status = 'cancelled', finished_at = $2 WHERE job_id = $1 AND status = 'queued' \
                 AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = $1 AND jobs.cancelled_at IS NOT NULL)",
            )
            .bind(id)
            .bind(now)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
        })
        .map_err(StorageError::during(WHAT))?;
        let ended = Ended { cancelled: i64::try_from(ended).unwrap_or(i64::MAX), ..Ended::default() };
        count_ended(&mut transaction, id, ended, now).await.map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await
    }

    /// Lets the dead items of a job wait again, as if they had never been taken; says whether there were any. A job that
    /// was cancelled stays so.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn job_requeue(&self, id: &str, now: i64) -> Result<bool, StorageError> {
        const WHAT: &str = "job_requeue";
        let mut transaction = self.begin(WHAT).await?;
        let again: u64 = on!(transaction.on(), |db| {
            sqlx::query(
                "UPDATE job_items SET status = 'queued', attempts = 0, run_after = $2, finished_at = NULL, error = NULL \
                 WHERE job_id = $1 AND status = 'dead' \
                 AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = $1 AND jobs.cancelled_at IS NULL)",
            )
            .bind(id)
            .bind(now)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
        })
        .map_err(StorageError::during(WHAT))?;
        if again == 0 {
            return Ok(false);
        }
        on!(transaction.on(), |db| {
            sqlx::query("UPDATE jobs SET dead = dead - $2, started_at = NULL, finished_at = NULL WHERE id = $1")
                .bind(id)
                .bind(i64::try_from(again).unwrap_or(i64::MAX))
                .execute(db)
                .await
                .map(|_| ())
        })
        .map_err(StorageError::during(WHAT))?;
        transaction.commit(WHAT).await?;
        Ok(true)
    }

    /// Deletes jobs that finished before this second, a bounded number at a time, unless another process is cleaning.
    /// Says whether there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs_clean(&self, finished_before: i64) -> Result<bool, StorageError> {
        self.clean(CLEAN, finished_before).await
    }
}

/// How many items of a job have just ended, by their ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    pub(super) done: i64,
    pub(super) dead: i64,
    pub(super) cancelled: i64,
}

/// Adds to a job's counts; the job has finished when they reach its total.
pub(super) async fn count_ended(
    transaction: &mut Transaction,
    job_id: &str,
    ended: Ended,
    now: i64,
) -> Result<(), sqlx::Error> {
    on!(transaction.on(), |db| {
        sqlx::query(
            "UPDATE jobs SET done = done + $2, dead = dead + $3, cancelled = cancelled + $4, \
             finished_at = CASE WHEN done + dead + cancelled + $2 + $3 + $4 >= total \
                                THEN coalesce(finished_at, $5) ELSE finished_at END \
             WHERE id = $1",
        )
        .bind(job_id)
        .bind(ended.done)
        .bind(ended.dead)
        .bind(ended.cancelled)
        .bind(now)
        .execute(db)
        .await
        .map(|_| ())
    })
}

/// Keeps the job's own row unless its idempotency key is known; says whether it did.
async fn insert_job(transaction: &mut Transaction, job: NewJob<'_>) -> Result<bool, sqlx::Error> {
    on!(transaction.on(), |db| {
        sqlx::query(
            "INSERT INTO jobs (id, owner, priority, idempotency_key, body_hash, created_at, total, traceparent) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(job.id)
        .bind(job.owner)
        .bind(job.priority)
        .bind(job.idempotency_key)
        .bind(job.body_hash)
        .bind(job.created_at)
        .bind(i64::try_from(job.requests.len()).unwrap_or(i64::MAX))
        .bind(job.traceparent)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
    })
}

/// Why there is no room for the items of a job; `None` if there is.
async fn full_in(
    transaction: &mut Transaction,
    job: NewJob<'_>,
    room: QueueRoom,
) -> Result<Option<JobMade>, sqlx::Error> {
    let unfinished: i64 = on!(transaction.on(), |db| {
        sqlx::query_scalar(UNFINISHED).bind(job.owner).bind(job.id).fetch_one(db).await
    })?;
    if unfinished >= i64::from(room.owner_max) {
        return Ok(Some(JobMade::OwnerFull));
    }
    let queued: i64 = on!(transaction.on(), |db| {
        sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM job_items WHERE status = 'queued' LIMIT $1) AS waiting",
        )
        .bind(i64::from(room.queued_max))
        .fetch_one(db)
        .await
    })?;
    Ok((queued >= i64::from(room.queued_max)).then_some(JobMade::Full))
}

async fn insert_item(
    transaction: &mut Transaction,
    job: NewJob<'_>,
    position: i64,
    request: &str,
) -> Result<(), sqlx::Error> {
    on!(transaction.on(), |db| {
        sqlx::query(
            "INSERT INTO job_items (id, job_id, position, status, priority, run_after, request) \
             VALUES ($1, $2, $3, 'queued', $4, $5, $6)",
        )
        .bind(ids::new_id())
        .bind(job.id)
        .bind(position)
        .bind(job.priority)
        .bind(job.created_at)
        .bind(request)
        .execute(db)
        .await
        .map(|_| ())
    })
}

/// The job that the owner made with this key before.
async fn job_of_key(transaction: &mut Transaction, job: NewJob<'_>) -> Result<Option<JobRow>, sqlx::Error> {
    on!(transaction.on(), |db| {
        sqlx::query_as(BY_KEY).bind(job.owner).bind(job.idempotency_key).fetch_optional(db).await
    })
}

async fn job_in(transaction: &mut Transaction, id: &str) -> Result<JobRow, sqlx::Error> {
    on!(transaction.on(), |db| sqlx::query_as(BY_ID).bind(id).bind(None::<&str>).fetch_one(db).await)
}
