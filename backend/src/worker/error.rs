//! Job errors: why a job was not made, shown or changed.
//!
//! For: `api/error.rs`, which makes HTTP of them. May touch: the errors of `query` and `storage`.
//! Promises: what the database said stays in the cause, for the log. Read next: `service.rs`.

use crate::query::QueryError;
use crate::storage::StorageError;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A field does not hold what it must.
    #[error("{field} {why}")]
    Input {
        /// Which.
        field: String,
        /// What it must hold.
        why: String,
    },
    /// A query cannot be asked for a reason other than its fields.
    #[error("a query cannot be asked")]
    Query(#[source] QueryError),
    /// There is no such job, or it is somebody else's.
    #[error("there is no such job")]
    NotFound,
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// Nothing of the job is dead, or it was cancelled.
    #[error("the job has no dead queries, or was cancelled")]
    NothingDead,
    /// As many queries wait as may.
    #[error("{queued_max} queries wait already")]
    Full {
        /// How many may.
        queued_max: u32,
    },
    /// As many queries of the caller's have not ended as may.
    #[error("{owner_max} queries of the caller's have not ended yet")]
    OwnerFull {
        /// How many may be.
        owner_max: u32,
    },
    /// What is kept cannot be read, which is a programming error.
    #[error("a job that is kept cannot be read")]
    Unsound(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database failed.
    #[error("the database failed")]
    Storage(#[from] StorageError),
}

impl JobError {
    /// Whether a part that is needed is away, so that trying later may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_passing())
    }
}
