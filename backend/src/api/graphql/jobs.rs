//! Jobs: batches of queries, how far they have come, and what came of them.
//!
//! For: `processBatch`, `cancelJob`, `requeueJob`, `jobs` and `job`. Doc comments on types are the schema's descriptions.
//! May touch: `worker::Jobs`. Promises: the same work as REST asks for, under the same words; results come in pages, which
//! are counted in what a document costs. Read next: `mutation.rs` and `query.rs`.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, SimpleObject};

use super::guard::{READ, of};
use super::query::{Pages, page_cost, pages};
use super::types::Timestamp;
use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::page::{limit, mark};
use crate::api::rest::jobs::{after_mark, write_mark};
use crate::auth::Caller;
use crate::query::Question;
use crate::worker;

/// What a look at the queries of a job costs besides them: each job asks the database by itself, and a document must not
/// take all its readers.
const ITEMS_COST: usize = 50;

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

/// How far a query of a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "worker::ItemStatus")]
pub(super) enum JobItemStatus {
    /// It waits.
    Queued,
    /// A worker has it.
    Running,
    /// It was answered.
    Done,
    /// It will not be answered.
    Dead,
    /// It was never answered, because its batch was cancelled.
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

/// A query of a batch, and what came of it.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct JobItem {
    /// Its place in the batch, from 0.
    index: i64,
    status: JobItemStatus,
    /// How often it was taken.
    attempts: i64,
    /// When it may be taken; null, if it does not wait.
    run_after: Option<Timestamp>,
    /// When it was last taken.
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// Null, as long as it was not answered.
    result: Option<JobResult>,
    /// Why its last attempt failed, if one did.
    error: Option<String>,
}

/// The answer to a query of a batch.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct JobResult {
    answer: String,
    /// Whether the answer's end was cut off, because it was longer than is kept.
    truncated: bool,
    /// The id of the model that gave it.
    model: String,
    /// Why it was that model.
    reason: String,
    /// Why the model stopped: stop, length or `content_filter`.
    finish_reason: String,
    /// Whether the answer was kept from an earlier time.
    cached: bool,
    /// Tokens of the query, as the model counts them.
    prompt_tokens: u64,
    /// Tokens of the answer, as the model counts them.
    completion_tokens: u64,
}

/// A batch that is answered by workers.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
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
    /// As the services know it.
    #[graphql(skip)]
    known: worker::Job,
}

#[ComplexObject]
impl Job {
    /// Its queries, in the order of the batch, with what came of them.
    #[graphql(guard = "READ", complexity = "ITEMS_COST + page_cost(first, child_complexity)")]
    async fn items(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 100 at most; 50, if left out.")] first: Option<u32>,
        #[graphql(desc = "The cursor after which to go on.")] after: Option<String>,
    ) -> Result<Option<Pages<JobItem>>, ApiError> {
        let services: &Arc<Services> = of(ctx)?;
        let limit = limit("first", first)?;
        let mark = after.as_deref().map(|after| mark("after", after)).transpose()?;
        let from = mark.as_deref().map(|mark| after_mark("after", mark)).transpose()?.unwrap_or(0);
        let items = services.jobs.items(&self.known, from, limit + 1).await?;
        let marked = items.into_iter().map(|item| (write_mark(item.position), JobItem::from(item))).collect();
        Ok(Some(pages(marked, limit, after.is_some())))
    }
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

impl From<worker::JobItem> for JobItem {
    fn from(item: worker::JobItem) -> Self {
        Self {
            index: item.position,
            run_after: (item.status == worker::ItemStatus::Queued).then_some(Timestamp(item.run_after)),
            status: item.status.into(),
            attempts: item.attempts,
            started_at: item.started_at.map(Timestamp),
            finished_at: item.finished_at.map(Timestamp),
            result: item.result.map(JobResult::from),
            error: item.error,
        }
    }
}

impl From<worker::ItemAnswer> for JobResult {
    fn from(answer: worker::ItemAnswer) -> Self {
        Self {
            answer: answer.answer,
            truncated: answer.truncated,
            model: answer.model,
            reason: answer.reason,
            finish_reason: answer.finish_reason,
            cached: answer.cached,
            prompt_tokens: answer.prompt_tokens,
            completion_tokens: answer.completion_tokens,
        }
    }
}

impl From<worker::Job> for Job {
    fn from(job: worker::Job) -> Self {
        Self {
            known: job.clone(),
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
