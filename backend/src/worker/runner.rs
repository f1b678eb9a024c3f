//! Runner: takes items of jobs, has them answered, and writes down how that ended.
//!
//! For: one worker a process. May touch: `storage`, `query`, the streams of `shared`.
//! Promises: at most `jobs.concurrency` items at a time; an attempt that panics or takes too long has failed, and no other
//! with it; what fails for a passing reason waits longer each time, what cannot succeed is given up at once; told to end,
//! it takes nothing new, finishes what it can within `server.drain`, and gives the rest back uncounted.
//! Read next: `feed.rs` for where it looks, `storage/job_items.rs` for why two workers never end the same item.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::backoff;
use common::clock::Clock;
use common::telemetry::with_causes;
use common::traces::Tracer;
use futures::FutureExt as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::JobError;
use super::feed::{self, Feed, Lead};
use super::item::{ItemAnswer, ItemRequest};
use super::spans::{Attempt, Ending};
use crate::base::ids;
use crate::base::job_metrics::{AttemptOutcome, JobMetrics};
use crate::base::time::{now_seconds, to_signed, to_unsigned};
use crate::config;
use crate::query::{Queries, QueryError};
use crate::shared::{Delivery, Streams};
use crate::storage::{Holder, ItemEnd, ItemFate, StorageError, Store, Take, TakenItem};

/// Leads to items that cannot be taken, or have just ended as cancelled, that are followed in a row before the worker looks
/// around.
const LEADS_MAX: usize = 100;

/// Items left by other workers that are looked after in a row.
const RECLAIMED_MAX: usize = 1_000;

/// How often the items that wait are counted.
const COUNT_PERIOD: Duration = Duration::from_secs(5);

/// How often the end of an attempt is written down anew while the database is away, and the pause in between. Afterwards
/// the lease runs out, and somebody does the work again.
const END_ATTEMPTS_MAX: u32 = 5;
const END_PAUSE: Duration = Duration::from_secs(1);

/// How long giving items back may take at the end.
const GIVE_BACK_DEADLINE: Duration = Duration::from_secs(5);

/// The longest error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 500;

/// Signs of life within one lease: two may be missed.
const SIGNS_A_LEASE: u32 = 3;

/// One worker. Its clones are the same worker.
#[derive(Clone)]
pub struct Worker {
    /// Tells it from all others that were ever started.
    id: String,
    store: Store,
    queries: Queries,
    streams: Option<Streams>,
    wake: Arc<Notify>,
    metrics: JobMetrics,
    clock: Arc<dyn Clock>,
    settings: config::Jobs,
    /// Tells of attempts; nobody does, if `None`.
    tracer: Option<Tracer>,
}

/// How an attempt went.
#[derive(Debug)]
enum Outcome {
    /// The answer, in JSON.
    Done(String),
    Failed {
        why: String,
        /// Whether another attempt would be in vain.
        is_final: bool,
    },
    /// The program is to end.
    GivenBack,
}

impl Outcome {
    const fn ending(&self) -> Ending {
        match self {
            Self::Done(_) => Ending::Done,
            Self::Failed { .. } => Ending::Failed,
            Self::GivenBack => Ending::GivenBack,
        }
    }
}

impl Worker {
    /// A worker that hears of items by `streams`, is woken by `wake`, and looks by itself every `jobs.poll`.
    #[must_use]
    pub fn new(
        store: Store,
        queries: Queries,
        streams: Option<Streams>,
        wake: Arc<Notify>,
        metrics: JobMetrics,
        clock: Arc<dyn Clock>,
        settings: config::Jobs,
    ) -> Self {
        Self { id: ids::new_id(), store, queries, streams, wake, metrics, clock, settings, tracer: None }
    }

    /// The same worker, whose attempts are told of.
    #[must_use]
    pub fn telling(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Works until `stopped` becomes true, and for `drain` at most after that.
    pub async fn run(&self, stopped: watch::Receiver<bool>, drain: Duration) {
        tracing::info!(worker = self.id, concurrency = self.settings.concurrency, "taking jobs");
        let worker = Arc::new(self.clone());
        let (call_back, called_back) = watch::channel(false);
        let mut under_way = JoinSet::new();
        tokio::join!(worker.take_all(&mut under_way, &called_back, stopped.clone()), worker.look_after(stopped));
        if ended_within(&mut under_way, drain).await {
            return;
        }
        tracing::warn!(worker = worker.id, "the drain deadline passed; jobs under way are given back");
        call_back.send_replace(true);
        if !ended_within(&mut under_way, GIVE_BACK_DEADLINE).await {
            tracing::error!(
                worker = worker.id,
                "jobs could not be given back; others take them when the lease is over"
            );
        }
    }

    /// Takes one item after the other, as long as there is room.
    async fn take_all(
        self: &Arc<Self>,
        under_way: &mut JoinSet<()>,
        called_back: &watch::Receiver<bool>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let slots = Arc::new(Semaphore::new(self.settings.concurrency));
        let mut feed = Feed::new(self.streams.clone(), &self.id, self.settings.poll, self.settings.lease);
        loop {
            let slot = tokio::select! {
                biased;
                () = told(&mut stopped) => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            // The semaphore is never closed.
            let Ok(slot) = slot else { break };
            while under_way.try_join_next().is_some() {}
            match self.take(&mut feed).await {
                Ok(Some((item, delivery))) => {
                    under_way.spawn(Arc::clone(self).work(item, delivery, slot, called_back.clone()));
                }
                Ok(None) => {
                    tokio::select! {
                        () = self.rest(&mut stopped) => {}
                        () = feed.arrival() => {}
                    }
                }
                Err(error) => {
                    tracing::error!(error = with_causes(&error), "no job can be taken");
                    self.rest(&mut stopped).await;
                }
            }
        }
        feed.end().await;
    }

    /// Waits until there may be something to do.
    async fn rest(&self, stopped: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = told(stopped) => {}
            () = self.wake.notified() => {}
            () = tokio::time::sleep(self.settings.poll) => {}
        }
    }

    /// Takes the next item, with the entry that told of it.
    async fn take(&self, feed: &mut Feed) -> Result<Option<(TakenItem, Option<Delivery>)>, StorageError> {
        for _ in 0..LEADS_MAX {
            let (take, delivery) = match feed.lead().await {
                Lead::Nothing => return Ok(None),
                Lead::Database => {
                    let take = self.take_next().await?;
                    if !feed.looked(take != Take::Nothing) {
                        return Ok(None);
                    }
                    (take, None)
                }
                Lead::Stream(delivery) => {
                    let now = self.now();
                    let named = self.store.job_item_take_named(&delivery.item, &self.id, now, self.lease_from(now));
                    match named.await {
                        Ok(take) => (take, Some(delivery)),
                        Err(error) => {
                            feed.put_back(delivery);
                            return Err(error);
                        }
                    }
                }
            };
            match take {
                Take::Taken(item) => return Ok(Some((item, delivery))),
                Take::Cancelled => self.metrics.ended(AttemptOutcome::Cancelled),
                // Another worker has it or had it, or it waits for its next attempt.
                Take::Nothing => {}
            }
            if let Some((streams, delivery)) = self.streams.as_ref().zip(delivery.as_ref()) {
                feed::settle(streams, delivery).await;
            }
        }
        Ok(None)
    }

    /// Takes what the database has next.
    async fn take_next(&self) -> Result<Take, StorageError> {
        let now = self.now();
        if self.store.job_item_is_ready(now).await? {
            self.store.job_item_take(&self.id, now, self.lease_from(now)).await
        } else {
            Ok(Take::Nothing)
        }
    }

    /// Looks, every `jobs.poll`, for items whose workers have gone, and counts what waits.
    async fn look_after(&self, mut stopped: watch::Receiver<bool>) {
        let mut counted: Option<Instant> = None;
        loop {
            if let Err(error) = self.reclaim().await {
                tracing::error!(error = with_causes(&error), "jobs of workers that have gone cannot be looked after");
            }
            if counted.is_none_or(|at| at.elapsed() >= COUNT_PERIOD) {
                counted = Some(Instant::now());
                match self.store.job_item_count_queued().await {
                    Ok(items) => self.metrics.queued(items),
                    Err(error) => tracing::error!(error = with_causes(&error), "jobs cannot be counted"),
                }
            }
            tokio::select! {
                () = told(&mut stopped) => return,
                () = tokio::time::sleep(self.settings.poll) => {}
            }
        }
    }

    async fn reclaim(&self) -> Result<(), StorageError> {
        for _ in 0..RECLAIMED_MAX {
            let now = self.now();
            if !self.store.job_item_is_lost(now).await? {
                return Ok(());
            }
            let Some(fate) = self.store.job_item_reclaim(self.settings.attempts_max, now).await? else {
                return Ok(());
            };
            tracing::warn!(?fate, "a worker has gone in the middle of a job");
            self.metrics.ended(match fate {
                ItemFate::Dead => AttemptOutcome::Dead,
                ItemFate::Cancelled => AttemptOutcome::Cancelled,
                ItemFate::Queued | ItemFate::Done => AttemptOutcome::Lost,
            });
            self.wake.notify_one();
        }
        Ok(())
    }

    /// One attempt on one item, from its start to what is written down about it.
    async fn work(
        self: Arc<Self>,
        item: TakenItem,
        delivery: Option<Delivery>,
        slot: OwnedSemaphorePermit,
        mut called_back: watch::Receiver<bool>,
    ) {
        let waited = to_unsigned(self.now().saturating_sub(item.ready_at));
        let running = self.metrics.taken(Duration::from_secs(waited));
        let started = Instant::now();
        let told_of = Attempt::begin(self.tracer.as_ref(), &item);
        let outcome = tokio::select! {
            outcome = told_of.around(self.attempt(&item)) => Some(outcome),
            () = self.hold(&item) => None,
            () = told(&mut called_back) => Some(Outcome::GivenBack),
        };
        self.metrics.took(started.elapsed());
        told_of.ended(outcome.as_ref().map_or(Ending::Lost, Outcome::ending));
        match &outcome {
            Some(outcome) => self.finish(&item, outcome).await,
            None => self.lost(&item),
        }
        if let Some((streams, delivery)) = self.streams.as_ref().zip(delivery.as_ref()) {
            match outcome {
                Some(Outcome::GivenBack) => feed::give_on(streams, delivery).await,
                _ => feed::settle(streams, delivery).await,
            }
        }
        drop((running, slot));
    }

    /// Asks, within the bounds of time; a panic is a failure like any other.
    async fn attempt(&self, item: &TakenItem) -> Outcome {
        // What the attempt shares with others is behind locks that survive a panic.
        let answering = AssertUnwindSafe(self.answer(item)).catch_unwind();
        let failed = |why: &str| Outcome::Failed { why: why.to_owned(), is_final: false };
        match tokio::time::timeout(self.settings.attempt_timeout, answering).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => failed("it failed inside"),
            Err(_) => failed("it was not answered in time"),
        }
    }

    async fn answer(&self, item: &TakenItem) -> Outcome {
        let question = match ItemRequest::read(&item.request) {
            Ok(question) => question,
            Err(error) => return unsound(item, &error),
        };
        match self.queries.ask(&item.owner, &question).await {
            Ok(answer) => match ItemAnswer::of(answer, self.settings.answer_bytes_max).write() {
                Ok(text) => Outcome::Done(text),
                Err(error) => unsound(item, &error),
            },
            Err(error) => {
                tracing::warn!(
                    job = item.job_id,
                    item = item.id,
                    attempt = item.attempt,
                    error = with_causes(&error),
                    "a query of a job was not answered"
                );
                failure(&error)
            }
        }
    }

    /// Says again and again that the worker lives; returns when the item is no longer its own.
    async fn hold(&self, item: &TakenItem) {
        loop {
            tokio::time::sleep(self.settings.lease / SIGNS_A_LEASE).await;
            match self.store.job_item_renew(self.holder(item), self.lease_from(self.now())).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(error = with_causes(&error), "the lease of a job cannot be renewed"),
            }
        }
    }

    /// Writes down how an attempt ended. While the database is away that is tried again, a few times.
    async fn finish(&self, item: &TakenItem, outcome: &Outcome) {
        let now = self.now();
        let used_up = item.attempt >= i64::from(self.settings.attempts_max);
        let (end, counted) = match outcome {
            Outcome::Done(text) => (ItemEnd::Done(text), AttemptOutcome::Done),
            Outcome::Failed { why, is_final } if *is_final || used_up => (ItemEnd::Dead(why), AttemptOutcome::Dead),
            Outcome::Failed { why, .. } => {
                (ItemEnd::Retry(why, now.saturating_add(self.wait_after(item.attempt))), AttemptOutcome::Retried)
            }
            Outcome::GivenBack => (ItemEnd::GivenBack, AttemptOutcome::GivenBack),
        };
        for attempt in 1..=END_ATTEMPTS_MAX {
            match self.store.job_item_end(self.holder(item), end, now).await {
                Ok(Some(ItemFate::Cancelled)) => return self.metrics.ended(AttemptOutcome::Cancelled),
                Ok(Some(_)) => return self.metrics.ended(counted),
                Ok(None) => return self.lost(item),
                Err(error) if error.is_passing() && attempt < END_ATTEMPTS_MAX => {
                    tracing::warn!(error = with_causes(&error), "the end of a job cannot be written down yet");
                    tokio::time::sleep(END_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(
                        job = item.job_id,
                        item = item.id,
                        error = with_causes(&error),
                        "the end of a job could not be written down; it will be done again"
                    );
                    return;
                }
            }
        }
    }

    fn lost(&self, item: &TakenItem) {
        tracing::warn!(
            job = item.job_id,
            item = item.id,
            "another worker has this item by now; its answer is dropped"
        );
        self.metrics.ended(AttemptOutcome::Lost);
    }

    fn holder<'i>(&'i self, item: &'i TakenItem) -> Holder<'i> {
        Holder { item_id: &item.id, job_id: &item.job_id, worker: &self.id, attempt: item.attempt }
    }

    fn now(&self) -> i64 {
        now_seconds(&*self.clock)
    }

    fn lease_from(&self, now: i64) -> i64 {
        now.saturating_add(to_signed(self.settings.lease.as_secs()))
    }

    /// How long to wait after this attempt, in seconds.
    fn wait_after(&self, attempt: i64) -> i64 {
        let failures = u32::try_from(attempt).unwrap_or(u32::MAX);
        let wait = backoff::wait_after(failures, self.settings.backoff, self.settings.backoff_max);
        let wait = backoff::spread(wait);
        // To the next full second: times are kept in whole ones.
        to_signed(wait.as_secs()).saturating_add(i64::from(wait.subsec_nanos() > 0))
    }
}

/// Waits until this becomes true. When nobody is left to say so, that is as good as being told.
async fn told(signal: &mut watch::Receiver<bool>) {
    drop(signal.wait_for(|told| *told).await);
}

/// Waits until all have ended, and not for longer than this; says whether they have.
async fn ended_within(under_way: &mut JoinSet<()>, limit: Duration) -> bool {
    let all = async { while under_way.join_next().await.is_some() {} };
    tokio::time::timeout(limit, all).await.is_ok()
}

/// What is kept cannot be read, or not be written: another attempt would find the same.
fn unsound(item: &TakenItem, error: &JobError) -> Outcome {
    tracing::error!(job = item.job_id, item = item.id, error = with_causes(error), "an item of a job is unsound");
    Outcome::Failed { why: "it failed inside".to_owned(), is_final: true }
}

/// What the owner may know of an error; its causes are in the log.
fn failure(error: &QueryError) -> Outcome {
    let mut why = error.to_string();
    why.truncate(why.floor_char_boundary(ERROR_BYTES_MAX));
    Outcome::Failed { why, is_final: error.is_final() }
}
