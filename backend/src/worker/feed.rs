//! Feed: where a worker hears of the next item: from a stream of Redis, and from the database in any case.
//!
//! For: `runner.rs`. May touch: `shared::Streams`.
//! Promises: while Redis is up, what is in the streams comes first and at once, the most urgent before the rest; the
//! database is looked at every `jobs.poll` whatever the streams hold, so that what they lost waits no longer than that
//! for its turn; without Redis the database is all there is. A worker keeps no more entries back than `wait` and `claim`
//! give at once, and gives them on when it ends.
//! Read next: `shared/streams.rs`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::shared::{Away, Delivery, PRIORITIES, Streams};

/// The pause after Redis refused to let anybody wait.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Where to look for the next item.
#[derive(Debug)]
pub(super) enum Lead {
    /// A stream names it.
    Stream(Delivery),
    /// The database may have one.
    Database,
    /// Nowhere for now.
    Nothing,
}

/// What one worker hears.
pub(super) struct Feed {
    streams: Option<Streams>,
    consumer: String,
    poll: Duration,
    /// How long another worker may keep an entry.
    idle_max: Duration,
    /// Entries that are this worker's, and are not looked at yet.
    held: VecDeque<Delivery>,
    waiting: Option<JoinHandle<Result<Vec<Delivery>, Away>>>,
    /// When the database is looked at next, whatever the streams hold.
    look_at: Instant,
    /// Whether the database had an item when it was last looked at.
    found: bool,
    /// When entries of others are looked at next.
    claim_at: Instant,
}

impl Feed {
    pub(super) fn new(streams: Option<Streams>, consumer: &str, poll: Duration, lease: Duration) -> Self {
        let now = Instant::now();
        Self {
            streams,
            consumer: consumer.to_owned(),
            poll,
            idle_max: lease,
            held: VecDeque::new(),
            waiting: None,
            look_at: now,
            found: false,
            claim_at: now,
        }
    }

    /// Where to look next. After `Database`, `looked` wants to know what came of it.
    pub(super) async fn lead(&mut self) -> Lead {
        let Some(streams) = self.streams.clone().filter(Streams::is_up) else {
            // The database knows of these as well.
            self.held.clear();
            return Lead::Database;
        };
        if self.look_at <= Instant::now() {
            return Lead::Database;
        }
        match self.next(&streams).await {
            Some(delivery) => Lead::Stream(delivery),
            None if self.found => Lead::Database,
            None => Lead::Nothing,
        }
    }

    /// Whether there was an item in the database; says whether it is worth asking for the next lead.
    pub(super) fn looked(&mut self, found: bool) -> bool {
        self.look_at = Instant::now() + self.poll;
        self.found = found;
        found || self.streams.as_ref().is_some_and(Streams::is_up)
    }

    /// A lead that could not be followed, because the database is away.
    pub(super) fn put_back(&mut self, delivery: Delivery) {
        self.held.push_front(delivery);
    }

    /// Returns when there may be a new lead; never, where there are no streams.
    pub(super) async fn arrival(&mut self) {
        let Some(streams) = self.streams.clone() else { return std::future::pending().await };
        while self.held.is_empty() || !streams.is_up() {
            let waiting = self.waiting.get_or_insert_with(|| {
                let (streams, consumer) = (streams.clone(), self.consumer.clone());
                // On its own, because an entry is this worker's as soon as Redis has sent it, whoever listens.
                tokio::spawn(async move { streams.wait(&consumer).await })
            });
            let arrived = waiting.await;
            self.waiting = None;
            match arrived {
                Ok(Ok(deliveries)) => self.held.extend(deliveries),
                Ok(Err(Away)) | Err(_) => tokio::time::sleep(REFUSED_PAUSE).await,
            }
        }
    }

    /// Gives on what was not looked at.
    pub(super) async fn end(mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.abort();
        }
        let Some(streams) = self.streams.take() else { return };
        for delivery in &self.held {
            give_on(&streams, delivery).await;
        }
    }

    async fn next(&mut self, streams: &Streams) -> Option<Delivery> {
        if let Some(waiting) = self.waiting.take_if(|waiting| waiting.is_finished())
            && let Ok(Ok(deliveries)) = waiting.await
        {
            self.held.extend(deliveries);
        }
        if self.claim_at <= Instant::now() {
            self.claim_at = Instant::now() + self.idle_max;
            // What cannot be done now is done next time; `shared` tells why.
            let _ = self.claim(streams).await;
        }
        for priority in PRIORITIES {
            if let Some(place) = self.held.iter().position(|held| held.priority == priority) {
                return self.held.remove(place);
            }
            match streams.next(priority, &self.consumer).await {
                Ok(Some(delivery)) => return Some(delivery),
                Ok(None) => {}
                Err(Away) => return self.held.pop_front(),
            }
        }
        None
    }

    async fn claim(&mut self, streams: &Streams) -> Result<(), Away> {
        for priority in PRIORITIES {
            let claimed = streams.claim(priority, &self.consumer, self.idle_max).await?;
            self.held.extend(claimed);
            streams.forget_gone(priority).await?;
        }
        Ok(())
    }
}

/// Lets another worker have the item of an entry at once. Where that fails they find it in the database.
pub(super) async fn give_on(streams: &Streams, delivery: &Delivery) {
    if streams.add(delivery.priority, std::slice::from_ref(&delivery.item)).await.is_ok() {
        settle(streams, delivery).await;
    }
}

/// An entry is done with.
pub(super) async fn settle(streams: &Streams, delivery: &Delivery) {
    if streams.settle(delivery).await == Err(Away) {
        tracing::debug!(item = delivery.item, "an entry is not settled; somebody will take it over and do so");
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn without_redis_the_database_is_all_there_is() {
        let mut feed = Feed::new(None, "worker", Duration::from_secs(1), Duration::from_secs(30));
        for found in [true, false, true] {
            assert!(matches!(feed.lead().await, Lead::Database));
            assert_eq!(feed.looked(found), found, "it is worth asking on while there are items");
        }
        assert!(feed.arrival().now_or_never().is_none(), "nobody else tells of anything");
        feed.end().await;
    }
}
