//! Service: jobs made, shown, cancelled and requeued on behalf of callers.
//!
//! For: the handlers of REST and GraphQL. May touch: `storage`, `query` to refuse what cannot be asked,
//! `auth::Caller`, the streams of `shared`.
//! Promises: a caller sees and changes their own jobs, who administers everybody's; what is somebody else's looks like
//! what is not there; the same idempotency key with the same request makes one job, with another it is refused; nobody's
//! jobs fill the queue for everybody.
//! Read next: `runner.rs`.

use std::sync::Arc;

use common::access::Permission;
use common::clock::Clock;
use common::telemetry::with_causes;
use tokio::sync::Notify;

use super::item::ItemRequest;
use super::{Job, JobError, JobInput, JobItem};
use crate::auth::Caller;
use crate::base::digest::sha256_of_parts;
use crate::base::ids::{self, IDEMPOTENCY_KEY_CHARS_MAX};
use crate::base::time::now_seconds;
use crate::base::trace;
use crate::config;
use crate::query::{Queries, QueryError};
use crate::shared::Streams;
use crate::storage::{JobMade, JobRow, NewJob, QueueRoom, Store};

/// Everything jobs need.
pub struct Jobs {
    /// Where they are kept.
    pub store: Store,
    /// Knows what can be asked.
    pub queries: Queries,
    /// Tells the workers of all processes what there is to do, while Redis is up.
    pub streams: Option<Streams>,
    /// Tells the worker of this process that there is something to do.
    pub wake: Arc<Notify>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The bounds.
    pub settings: config::Jobs,
}

impl Jobs {
    /// Makes a job for the caller, or finds the one that the same request made before; says whether it was made now.
    ///
    /// # Errors
    /// `Input` with the field, `KeyReused`, `Full`, `OwnerFull`, or that the database failed.
    pub async fn create(&self, caller: &Caller, input: &JobInput) -> Result<(Job, bool), JobError> {
        self.check(input)?;
        let requests = input.queries.iter().map(ItemRequest::write).collect::<Result<Vec<String>, JobError>>()?;
        let priority = input.priority.number();
        let priority_bytes = priority.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![priority_bytes.as_slice()];
        parts.extend(requests.iter().map(String::as_bytes));
        let body_hash = sha256_of_parts(&parts);
        let id = ids::new_id();
        let traceparent = trace::current().map(|current| current.traceparent());
        let new = NewJob {
            id: &id,
            owner: &caller.subject,
            priority,
            idempotency_key: input.idempotency_key.as_deref(),
            body_hash: &body_hash,
            created_at: now_seconds(&*self.clock),
            traceparent: traceparent.as_deref(),
            requests: &requests,
        };
        let (queued_max, owner_max) = (self.settings.queued_max, self.settings.owner_max);
        match self.store.job_create(new, QueueRoom { queued_max, owner_max }).await? {
            JobMade::Made(row) => {
                self.tell(&row).await;
                Ok((row.into(), true))
            }
            JobMade::Known(row) if row.body_hash == body_hash => Ok((row.into(), false)),
            JobMade::Known(_) => Err(JobError::KeyReused),
            JobMade::Full => Err(JobError::Full { queued_max }),
            JobMade::OwnerFull => Err(JobError::OwnerFull { owner_max }),
        }
    }

    /// Up to `limit` jobs that were made before the one with the id `before`, the latest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, caller: &Caller, before: Option<&str>, limit: u32) -> Result<Vec<Job>, JobError> {
        let rows = self.store.job_list(owner_for(caller), before, limit).await?;
        Ok(rows.into_iter().map(Job::from).collect())
    }

    /// The job of this id.
    ///
    /// # Errors
    /// `NotFound`, or that the database failed.
    pub async fn get(&self, caller: &Caller, id: &str) -> Result<Job, JobError> {
        Ok(self.row(caller, id).await?.into())
    }

    /// Up to `limit` queries of a job that `get` has found, from this place on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn items(&self, job: &Job, from: i64, limit: u32) -> Result<Vec<JobItem>, JobError> {
        let rows = self.store.job_item_list(&job.id, from, limit).await?;
        rows.into_iter().map(JobItem::try_from).collect()
    }

    /// Cancels a job: what waits ends at once, what is under way is finished. Twice is no error.
    ///
    /// # Errors
    /// `NotFound`, or that the database failed.
    pub async fn cancel(&self, caller: &Caller, id: &str) -> Result<Job, JobError> {
        let row = self.row(caller, id).await?;
        self.store.job_cancel(&row.id, now_seconds(&*self.clock)).await?;
        self.get(caller, id).await
    }

    /// Lets the dead queries of a job wait again, with all their attempts before them.
    ///
    /// # Errors
    /// `NotFound`, `NothingDead`, or that the database failed.
    pub async fn requeue(&self, caller: &Caller, id: &str) -> Result<Job, JobError> {
        let row = self.row(caller, id).await?;
        if !self.store.job_requeue(&row.id, now_seconds(&*self.clock)).await? {
            return Err(JobError::NothingDead);
        }
        self.tell(&row).await;
        self.get(caller, id).await
    }

    /// Tells workers of what waits in a job. Whom this does not reach, because Redis is away or the database has just
    /// gone, looks by itself every `jobs.poll`.
    async fn tell(&self, job: &JobRow) {
        if let Some(streams) = self.streams.as_ref().filter(|streams| streams.is_up()) {
            let limit = u32::try_from(self.settings.batch_max).unwrap_or(u32::MAX);
            match self.store.job_item_list_ready(&job.id, now_seconds(&*self.clock), limit).await {
                Ok(items) => {
                    if streams.add(job.priority, &items).await.is_err() {
                        tracing::debug!(job = job.id, "workers could not be told; they look by themselves");
                    }
                }
                Err(error) => {
                    tracing::warn!(job = job.id, error = with_causes(&error), "workers could not be told of a job");
                }
            }
        }
        self.wake.notify_one();
    }

    async fn row(&self, caller: &Caller, id: &str) -> Result<JobRow, JobError> {
        if !ids::may_be_one(id) {
            return Err(JobError::NotFound);
        }
        self.store.job_by_id(id, owner_for(caller)).await?.ok_or(JobError::NotFound)
    }

    fn check(&self, input: &JobInput) -> Result<(), JobError> {
        let wrong = |field: &str, why: String| Err(JobError::Input { field: field.to_owned(), why });
        let batch_max = self.settings.batch_max;
        if !(1..=batch_max).contains(&input.queries.len()) {
            return wrong("queries", format!("must be 1 to {batch_max}"));
        }
        if input.idempotency_key.as_deref().is_some_and(|key| !ids::may_be_idempotency_key(key)) {
            let why = format!("must have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters");
            return wrong("Idempotency-Key", why);
        }
        for (index, question) in input.queries.iter().enumerate() {
            self.queries.check(question).map_err(|error| match error {
                QueryError::Input { field, why } => {
                    JobError::Input { field: format!("queries[{index}].{field}"), why }
                }
                other => JobError::Query(other),
            })?;
        }
        Ok(())
    }
}

/// Whose jobs the caller may see: everybody's, if `None`.
fn owner_for(caller: &Caller) -> Option<&str> {
    if caller.may(Permission::Admin) { None } else { Some(&caller.subject) }
}
