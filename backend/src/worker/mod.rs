//! Worker: what need not wait for an answer. A batch of queries is kept as a job, and workers answer its items.
//!
//! For: `Jobs`, by which the API makes and shows jobs, and `Worker`, which answers them. May touch: `query`, `storage`,
//! `shared`, `auth::Caller`. Promises: at least once: an item whose worker dies is taken again after `jobs.lease`; exactly
//! one end: an item is done, dead or cancelled once, whoever else was at it; attempts, waits, answers and the queue have
//! bounds with names. Several processes share one queue through the database, and need nothing else; with Redis they hear of
//! work at once instead of looking for it. `History` keeps the program's own numbers in the same database.
//! Read next: `job.rs` for the words, `service.rs`, then `runner.rs` and `feed.rs`, then `history.rs`.

mod error;
mod feed;
mod history;
mod item;
mod job;
mod runner;
mod service;
mod spans;

pub use error::JobError;
pub use history::{History, HistoryAsked, HistoryError, STEPS_MAX, Told, ToldPoint, kept_metrics};
pub use item::ItemAnswer;
pub use job::{ItemStatus, Job, JobInput, JobItem, JobStatus, Priority};
pub use runner::Worker;
pub use service::Jobs;
