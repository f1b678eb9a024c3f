//! Jobs: how far batches have come, and what their queries were answered.
//!
//! For: `/api/v1/jobs`. May touch: `worker::Jobs`. Promises: a caller sees their own jobs, who administers everybody's;
//! results come in pages, in the order of the batch. Read next: `worker/service.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::extract::{Administering, Allowed, Executing, PathText, QueryString, Reading};
use crate::api::page::{Page, PageQuery};
use crate::base::trace::within;
use crate::worker::{ItemAnswer, ItemStatus, Job, JobItem, JobStatus, Priority};

/// Times are seconds of the Unix epoch.
#[derive(Serialize)]
pub(in crate::api) struct JobAnswer {
    id: String,
    owner: String,
    status: JobStatus,
    priority: Priority,
    progress: ProgressAnswer,
    /// How often its queries were taken, all together.
    attempts: i64,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
}

#[derive(Serialize)]
struct ProgressAnswer {
    done: i64,
    failed: i64,
    cancelled: i64,
    total: i64,
}

/// A job with a page of its queries.
#[derive(Serialize)]
pub(in crate::api) struct JobDetails {
    #[serde(flatten)]
    job: JobAnswer,
    results: Page<ItemDetails>,
}

/// Times are seconds of the Unix epoch.
#[derive(Serialize)]
struct ItemDetails {
    index: i64,
    status: ItemStatus,
    attempts: i64,
    /// When it may be taken, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_after: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ItemAnswer>,
    /// Of the last attempt that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Job> for JobAnswer {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            owner: job.owner,
            status: job.status,
            priority: job.priority,
            progress: ProgressAnswer {
                done: job.done,
                failed: job.failed,
                cancelled: job.cancelled,
                total: job.total,
            },
            attempts: job.attempts,
            created_at: job.created_at,
            started_at: job.started_at,
            cancelled_at: job.cancelled_at,
            finished_at: job.finished_at,
        }
    }
}

impl From<JobItem> for ItemDetails {
    fn from(item: JobItem) -> Self {
        Self {
            index: item.position,
            status: item.status,
            attempts: item.attempts,
            run_after: (item.status == ItemStatus::Queued).then_some(item.run_after),
            started_at: item.started_at,
            finished_at: item.finished_at,
            result: item.result,
            error: item.error,
        }
    }
}

/// `GET /api/v1/jobs`
pub(in crate::api) async fn list(
    Allowed { caller, .. }: Allowed<Reading>,
    State(services): State<Arc<Services>>,
    QueryString(query): QueryString<PageQuery>,
) -> Result<Json<Page<JobAnswer>>, ApiError> {
    let limit = query.limit()?;
    let jobs = within("jobs.list", services.jobs.list(&caller, query.after()?.as_deref(), limit + 1)).await?;
    let answers = jobs.into_iter().map(JobAnswer::from).collect();
    Ok(Json(Page::cut(answers, limit, |job: &JobAnswer| job.id.clone())))
}

/// `GET /api/v1/jobs/{id}`
pub(in crate::api) async fn get(
    Allowed { caller, .. }: Allowed<Reading>,
    State(services): State<Arc<Services>>,
    PathText(id): PathText,
    QueryString(query): QueryString<PageQuery>,
) -> Result<Json<JobDetails>, ApiError> {
    let limit = query.limit()?;
    let from = query.after()?.as_deref().map(|mark| after_mark("cursor", mark)).transpose()?.unwrap_or(0);
    let job = within("jobs.get", services.jobs.get(&caller, &id)).await?;
    let items = within("jobs.items", services.jobs.items(&job, from, limit + 1)).await?;
    let answers = items.into_iter().map(ItemDetails::from).collect();
    let results = Page::cut(answers, limit, |item: &ItemDetails| write_mark(item.index));
    Ok(Json(JobDetails { job: job.into(), results }))
}

/// `DELETE /api/v1/jobs/{id}`
pub(in crate::api) async fn cancel(
    Allowed { caller, .. }: Allowed<Executing>,
    State(services): State<Arc<Services>>,
    PathText(id): PathText,
) -> Result<Json<JobAnswer>, ApiError> {
    Ok(Json(within("jobs.cancel", services.jobs.cancel(&caller, &id)).await?.into()))
}

/// `POST /api/v1/jobs/{id}/requeue`
pub(in crate::api) async fn requeue(
    Allowed { caller, .. }: Allowed<Administering>,
    State(services): State<Arc<Services>>,
    PathText(id): PathText,
) -> Result<Json<JobAnswer>, ApiError> {
    Ok(Json(within("jobs.requeue", services.jobs.requeue(&caller, &id)).await?.into()))
}

/// The mark of a query in its job's list.
pub(in crate::api) fn write_mark(index: i64) -> String {
    index.to_string()
}

/// The place after the one that the page before ended with, whose mark came under this name.
pub(in crate::api) fn after_mark(name: &str, mark: &str) -> Result<i64, ApiError> {
    let last: Option<i64> = mark.parse().ok().filter(|last| *last >= 0);
    last.and_then(|last| last.checked_add(1)).ok_or_else(|| ApiError::input(name, "is not one that this list gave"))
}
