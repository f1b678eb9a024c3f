//! Streams: queries of batches on their way to whoever answers them, one stream a priority.
//!
//! For: `worker`. May touch: Redis.
//! Promises: an entry goes to one worker of the group, and to another when that one does not settle it in time; a stream
//! never holds more than its bound. An entry names an item and is no more than a hint: who has an item is decided by
//! the database, so that lost, doubled and late entries do no harm.
//! Read next: `worker/feed.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamInfoConsumersReply, StreamReadReply};
use redis::{Cmd, FromRedisValue as _, RedisError, RedisResult};

use super::{Away, Shared};

/// The streams, the most urgent first.
pub const PRIORITIES: [i64; 3] = [2, 1, 0];

/// The group that all workers are of.
const GROUP: &str = "workers";

/// The field that names the item.
const FIELD: &str = "item";

/// How long a worker waits for an entry in one go.
const BLOCK: Duration = Duration::from_secs(2);

/// How much longer the answer to that may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Entries that are taken over from another worker at once.
const CLAIMED_MAX: usize = 10;

/// A worker that has no entries and was not heard of for so long has gone, and its name is forgotten.
const CONSUMER_GONE: Duration = Duration::from_mins(10);

/// The streams of one worker, or of whoever makes jobs. Its clones are the same.
#[derive(Clone)]
pub struct Streams {
    shared: Shared,
    /// The most entries of each stream.
    entries_max: u32,
    /// A connection for waiting, while nobody waits: on the shared one everybody else would wait as well.
    waiting: Arc<Mutex<Option<MultiplexedConnection>>>,
}

/// An entry that a worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The stream it came by.
    pub priority: i64,
    /// The item it names.
    pub item: String,
    /// Its own name.
    entry: String,
}

impl Streams {
    /// Streams of at most so many entries each.
    #[must_use]
    pub fn new(shared: Shared, entries_max: u32) -> Self {
        Self { shared, entries_max, waiting: Arc::default() }
    }

    /// Whether Redis answers, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// Tells the workers of these items.
    ///
    /// # Errors
    /// `Away`; then some may have been told.
    pub async fn add(&self, priority: i64, items: &[String]) -> Result<(), Away> {
        if items.is_empty() {
            return Ok(());
        }
        let key = self.key(priority);
        let mut commands = redis::pipe();
        for item in items {
            commands.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(self.entries_max);
            commands.arg("*").arg(FIELD).arg(item).ignore();
        }
        self.shared.ask_all::<()>(&commands).await
    }

    /// The next entry of this priority, if there is one now.
    ///
    /// # Errors
    /// `Away`.
    pub async fn next(&self, priority: i64, consumer: &str) -> Result<Option<Delivery>, Away> {
        let key = self.key(priority);
        let mut command = read(consumer);
        command.arg("STREAMS").arg(&key).arg(">");
        let read = self.shared.query::<Option<StreamReadReply>>(&command).await;
        if self.prepare_after(read.as_ref().err()).await? {
            return Ok(None);
        }
        Ok(self.deliveries(self.shared.judge(read)?).pop())
    }

    /// Waits for an entry, though not for long; there may be one of each priority, and there may be none.
    ///
    /// # Errors
    /// `Away`.
    pub async fn wait(&self, consumer: &str) -> Result<Vec<Delivery>, Away> {
        if !self.is_up() {
            return Err(Away);
        }
        let mut command = read(consumer);
        command.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX)).arg("STREAMS");
        command.arg(PRIORITIES.map(|priority| self.key(priority)).as_slice()).arg([">"; PRIORITIES.len()].as_slice());
        let read = self.wait_for(&command).await;
        if self.prepare_after(read.as_ref().err()).await? {
            return Ok(Vec::new());
        }
        Ok(self.deliveries(self.shared.judge(read)?))
    }

    /// Whoever drops this closes the connection, so that Redis gives an entry to somebody else.
    async fn wait_for(&self, command: &Cmd) -> RedisResult<Option<StreamReadReply>> {
        let kept = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut link = match kept {
            Some(link) => link,
            None => self.shared.inner.blueprint.connect(BLOCK + PATIENCE).await?,
        };
        let read = command.query_async(&mut link).await?;
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
        Ok(read)
    }

    /// Takes over entries that nobody has settled for so long.
    ///
    /// # Errors
    /// `Away`.
    pub async fn claim(&self, priority: i64, consumer: &str, idle: Duration) -> Result<Vec<Delivery>, Away> {
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(self.key(priority)).arg(GROUP).arg(consumer);
        command.arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)).arg("0-0").arg("COUNT").arg(CLAIMED_MAX);
        let claimed = self.shared.query::<StreamAutoClaimReply>(&command).await;
        if self.prepare_after(claimed.as_ref().err()).await? {
            return Ok(Vec::new());
        }
        let claimed = self.shared.judge(claimed)?.claimed;
        Ok(claimed.into_iter().map(|entry| delivery(priority, entry)).collect())
    }

    /// An entry is done with, whatever became of its item.
    ///
    /// # Errors
    /// `Away`; then somebody takes it over some day, finds its item ended, and settles it.
    pub async fn settle(&self, delivery: &Delivery) -> Result<(), Away> {
        let key = self.key(delivery.priority);
        let mut commands = redis::pipe();
        commands.cmd("XACK").arg(&key).arg(GROUP).arg(&delivery.entry).ignore();
        commands.cmd("XDEL").arg(&key).arg(&delivery.entry).ignore();
        self.shared.ask_all::<()>(&commands).await
    }

    /// Forgets the names of workers that have gone.
    ///
    /// # Errors
    /// `Away`.
    pub async fn forget_gone(&self, priority: i64) -> Result<(), Away> {
        let key = self.key(priority);
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(&key).arg(GROUP);
        let known = self.shared.query::<StreamInfoConsumersReply>(&command).await;
        if self.prepare_after(known.as_ref().err()).await? {
            return Ok(());
        }
        for consumer in self.shared.judge(known)?.consumers {
            if consumer.pending == 0 && consumer.idle as u128 > CONSUMER_GONE.as_millis() {
                let mut command = redis::cmd("XGROUP");
                command.arg("DELCONSUMER").arg(&key).arg(GROUP).arg(&consumer.name);
                self.shared.ask::<()>(&command).await?;
            }
        }
        Ok(())
    }

    /// Makes the group where that is why a question failed, as it is on a server that is new or has lost everything;
    /// says whether it was.
    async fn prepare_after(&self, error: Option<&RedisError>) -> Result<bool, Away> {
        // A stream that is not there is told in words only, and in others by XINFO than by XREADGROUP.
        let is_missing = |error: &RedisError| {
            error.code() == Some("NOGROUP") || error.detail().is_some_and(|words| words.contains("no such key"))
        };
        if !error.is_some_and(is_missing) {
            return Ok(false);
        }
        for priority in PRIORITIES {
            let mut command = redis::cmd("XGROUP");
            command.arg("CREATE").arg(self.key(priority)).arg(GROUP).arg("0").arg("MKSTREAM");
            match self.shared.query::<()>(&command).await {
                Err(error) if error.code() == Some("BUSYGROUP") => {}
                made => self.shared.judge(made)?,
            }
        }
        Ok(true)
    }

    /// One of each stream at most. The braces keep all of them in one place, should the server be one of many.
    fn deliveries(&self, read: Option<StreamReadReply>) -> Vec<Delivery> {
        let streams = read.map(|read| read.keys).unwrap_or_default();
        let priority_of = |key: &str| PRIORITIES.into_iter().find(|priority| self.key(*priority) == key);
        streams
            .into_iter()
            .filter_map(|stream| Some((priority_of(&stream.key)?, stream.ids)))
            .flat_map(|(priority, entries)| entries.into_iter().map(move |entry| delivery(priority, entry)))
            .collect()
    }

    fn key(&self, priority: i64) -> String {
        format!("{}:{{jobs}}:{priority}", self.shared.inner.prefix)
    }
}

fn read(consumer: &str) -> Cmd {
    let mut command = redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(GROUP).arg(consumer).arg("COUNT").arg(1);
    command
}

/// What somebody else wrote into the stream names no item, and is settled as such.
fn delivery(priority: i64, entry: StreamId) -> Delivery {
    let item = entry.map.get(FIELD).and_then(|value| String::from_redis_value_ref(value).ok());
    Delivery { priority, item: item.unwrap_or_default(), entry: entry.id }
}
