//! Jobs: batches of queries, and how far they have come.
//!
//! For: `processBatch`, `jobs` and `job`. Doc comments on types are the schema's descriptions. May touch: `worker::Jobs`.
//! Promises: the same work as REST asks for, under the same words. Read next: `mutation.rs` and `query.rs`.

use async_graphql::{Enum, ID, InputObject, SimpleObject};

use super::types::Timestamp;
use crate::api::Services;
use crate::api::error::ApiError;
use crate::auth::Caller;
use crate::query::Question;
use crate::worker;

/// How soon a batch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "worker::Priority")]
pub(super) enum Priority {
    /// After all others.
    Low,
    /// As usual.
    Normal,
    /// Before all others.
    High,
}

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "worker::JobStatus")]
pub(super) enum JobStatus {
    /// Nothing of it was taken yet.
    Queued,
    /// It was begun, and has not ended.
    Running,
    /// Everything was answered.
    Done,
    /// It has ended, and something of it will not be answered.
    Dead,
    /// It has ended before everything was tried, because somebody wanted it so.
    Cancelled,
}

/// One query of a batch.
#[derive(Clone, Debug, InputObject)]
pub(super) struct BatchQueryInput {
    /// The text, of 32768 characters at most.
    query: String,
    /// Which model shall answer; chosen by how hard the query looks, if left out.
    model: Option<String>,
    /// The most tokens of the answer; the model's own most, if left out.
    max_tokens: Option<u32>,
    /// How freely the model may choose its words, from 0 to 2; its own default, if left out.
    temperature: Option<f64>,
}

/// A batch.
#[derive(Clone, Debug, InputObject)]
pub(super) struct ProcessBatchInput {
    /// What is asked.
    queries: Vec<BatchQueryInput>,
    /// How soon; as usual, if left out.
    priority: Option<Priority>,
    /// The caller's own name of this request: sent again with it, the same request makes no second batch.
    idempotency_key: Option<String>,
}

/// How the queries of a batch fare.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct BatchMetrics {
    total: i64,
    done: i64,
    failed: i64,
    cancelled: i64,
    /// How often they were taken, all together.
    attempts: i64,
}

/// A batch that is answered by workers.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct Job {
    id: ID,
    /// The id of the user whose it is.
    owner_id: ID,
    status: JobStatus,
    priority: Priority,
    metrics: BatchMetrics,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    cancelled_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

/// Makes a job of a batch.
pub(super) async fn create(services: &Services, caller: &Caller, input: ProcessBatchInput) -> Result<Job, ApiError> {
    let input = worker::JobInput {
        queries: input.queries.into_iter().map(Question::from).collect(),
        priority: input.priority.map(worker::Priority::from).unwrap_or_default(),
        idempotency_key: input.idempotency_key,
    };
    let (job, _) = services.jobs.create(caller, &input).await?;
    Ok(job.into())
}

impl From<BatchQueryInput> for Question {
    fn from(input: BatchQueryInput) -> Self {
        Self {
            text: input.query,
            model: input.model,
            tokens_max: input.max_tokens,
            temperature: input.temperature,
            ..Self::default()
        }
    }
}

impl From<worker::Job> for Job {
    fn from(job: worker::Job) -> Self {
        Self {
            id: ID(job.id),
            owner_id: ID(job.owner),
            status: job.status.into(),
            priority: job.priority.into(),
            metrics: BatchMetrics {
                total: job.total,
                done: job.done,
                failed: job.failed,
                cancelled: job.cancelled,
                attempts: job.attempts,
            },
            created_at: Timestamp(job.created_at),
            started_at: job.started_at.map(Timestamp),
            cancelled_at: job.cancelled_at.map(Timestamp),
            finished_at: job.finished_at.map(Timestamp),
        }
    }
}
