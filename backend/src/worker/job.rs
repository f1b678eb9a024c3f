//! Job: what clients see of a batch.
//!
//! For: the words of REST and GraphQL. May touch: the rows of `storage`.
//! Promises: a job's status follows from its counts alone. Read next: `service.rs`.

use serde::{Deserialize, Serialize};

use super::{ItemAnswer, JobError};
use crate::query::Question;
use crate::storage::{JobItemRow, JobRow};

/// How soon a job's queries are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After all others.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
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

/// How far a query of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// It waits.
    Queued,
    /// A worker has it.
    Running,
    /// It was answered.
    Done,
    /// It will not be answered.
    Dead,
    /// It was never answered, because its job was cancelled.
    Cancelled,
}

/// What a new job should be.
#[derive(Clone, Debug)]
pub struct JobInput {
    /// What is asked; only text, model, tokens and temperature are kept.
    pub queries: Vec<Question>,
    /// How soon.
    pub priority: Priority,
    /// What the caller calls this very request, so that it can be sent again.
    pub idempotency_key: Option<String>,
}

/// A job. Times are seconds of the Unix epoch.
#[derive(Clone, Debug)]
pub struct Job {
    /// Sorts by creation.
    pub id: String,
    /// The subject of whoever asked.
    pub owner: String,
    /// How soon its queries are taken.
    pub priority: Priority,
    /// How far it is.
    pub status: JobStatus,
    /// Queries.
    pub total: i64,
    /// Queries that were answered.
    pub done: i64,
    /// Queries that will not be answered.
    pub failed: i64,
    /// Queries that were never answered, because the job was cancelled.
    pub cancelled: i64,
    /// How often its queries were taken.
    pub attempts: i64,
    /// When it was made.
    pub created_at: i64,
    /// When a query of it was first taken.
    pub started_at: Option<i64>,
    /// When somebody cancelled it.
    pub cancelled_at: Option<i64>,
    /// When its last query ended.
    pub finished_at: Option<i64>,
}

/// A query of a job. Times are seconds of the Unix epoch.
#[derive(Clone, Debug)]
pub struct JobItem {
    /// Its place in the batch, from 0.
    pub position: i64,
    /// How far it is.
    pub status: ItemStatus,
    /// How often it was taken.
    pub attempts: i64,
    /// When it may be taken, while it waits.
    pub run_after: i64,
    /// When it was last taken.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// The answer.
    pub result: Option<ItemAnswer>,
    /// What its last attempt that failed said.
    pub error: Option<String>,
}

impl Priority {
    /// As it is kept: the higher is taken first.
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Low => 0,
            Self::Normal => 1,
            Self::High => 2,
        }
    }

    const fn of(number: i64) -> Self {
        match number {
            ..=0 => Self::Low,
            1 => Self::Normal,
            _ => Self::High,
        }
    }
}

impl ItemStatus {
    fn of(word: &str) -> Result<Self, JobError> {
        match word {
            "queued" => Ok(Self::Queued),
            "running" => Ok(Self::Running),
            "done" => Ok(Self::Done),
            "dead" => Ok(Self::Dead),
            "cancelled" => Ok(Self::Cancelled),
            other => Err(JobError::Unsound(format!("no query of a job is {other:?}").into())),
        }
    }
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        Self {
            status: status_of(&row),
            id: row.id,
            owner: row.owner,
            priority: Priority::of(row.priority),
            total: row.total,
            done: row.done,
            failed: row.dead,
            cancelled: row.cancelled,
            attempts: row.attempts,
            created_at: row.created_at,
            started_at: row.started_at,
            cancelled_at: row.cancelled_at,
            finished_at: row.finished_at,
        }
    }
}

impl TryFrom<JobItemRow> for JobItem {
    type Error = JobError;

    fn try_from(row: JobItemRow) -> Result<Self, JobError> {
        let result = row.result.as_deref().map(ItemAnswer::read).transpose()?;
        Ok(Self {
            position: row.position,
            status: ItemStatus::of(&row.status)?,
            attempts: row.attempts,
            run_after: row.run_after,
            started_at: row.started_at,
            finished_at: row.finished_at,
            result,
            error: row.error,
        })
    }
}

fn status_of(row: &JobRow) -> JobStatus {
    if row.done + row.dead + row.cancelled < row.total {
        // What was cancelled before anything was taken ends at once, so that this is one that waits.
        return if row.started_at.is_some() { JobStatus::Running } else { JobStatus::Queued };
    }
    match (row.cancelled, row.dead) {
        (1.., _) => JobStatus::Cancelled,
        (_, 1..) => JobStatus::Dead,
        _ => JobStatus::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(started_at: Option<i64>, done: i64, dead: i64, cancelled: i64) -> JobRow {
        JobRow {
            id: "j".into(),
            owner: "u".into(),
            priority: 1,
            body_hash: Vec::new(),
            created_at: 1,
            started_at,
            cancelled_at: None,
            finished_at: None,
            total: 3,
            done,
            dead,
            cancelled,
            attempts: 0,
        }
    }

    #[test]
    fn a_status_follows_from_the_counts() {
        let cases = [
            (row(None, 0, 0, 0), JobStatus::Queued),
            (row(Some(2), 0, 0, 0), JobStatus::Running),
            (row(Some(2), 1, 0, 1), JobStatus::Running),
            (row(Some(2), 3, 0, 0), JobStatus::Done),
            (row(Some(2), 2, 1, 0), JobStatus::Dead),
            (row(Some(2), 1, 1, 1), JobStatus::Cancelled),
            (row(None, 0, 0, 3), JobStatus::Cancelled),
        ];
        for (row, expected) in cases {
            assert_eq!(status_of(&row), expected, "{row:?}");
        }
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            assert_eq!(Priority::of(priority.number()), priority);
        }
    }
}
