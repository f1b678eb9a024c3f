//! Shared: what processes share besides the database, in Redis.
//!
//! For: queries of batches on their way to a worker (`Streams`), and answers that are kept (`Values`). May touch: the
//! Redis server of the configuration; `config` and `base`.
//! Promises: nothing that must not be lost is kept here alone; a question has one deadline, and none is asked while the
//! server is known to be away; its coming and going is logged once each and shown in `backend_redis_up`.
//! Read next: `keeper.rs` for the connection, `streams.rs` and `values.rs` for what is asked.

mod keeper;
mod link;
mod probe;
mod streams;
mod values;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::redis::late;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind};
use tokio::sync::{Notify, watch};

use crate::base::redis_metrics::RedisMetrics;
use crate::config;
use link::Blueprint;

pub use streams::{Delivery, PRIORITIES, Streams};
pub use values::{Found, Values};

/// Timeouts in a row after which the server counts as away. A broken connection does so at once.
const TIMEOUTS_MAX: u32 = 3;

/// The server is away, did not answer in time, or refused the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// The settings name something that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("Redis cannot be used as it is configured")]
pub struct SharedError(#[source] RedisError);

/// The server, as the rooms above see it. Its clones are the same.
#[derive(Clone)]
pub struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    blueprint: Blueprint,
    timeout: Duration,
    prefix: String,
    answer_bytes_max: usize,
    /// The connection, while there is one.
    link: watch::Sender<Option<MultiplexedConnection>>,
    timeouts: AtomicU32,
    /// Whether this connection's first refusal was logged.
    complained: AtomicBool,
    /// Told when a question has found the server away.
    lost: Notify,
    /// The answers' generation, as last heard.
    generation: Mutex<Option<Arc<str>>>,
    metrics: RedisMetrics,
}

impl Shared {
    /// A server that is away until `keep` has reached it.
    ///
    /// # Errors
    /// When no client can be made from the settings.
    pub fn new(settings: &config::Redis, metrics: RedisMetrics) -> Result<Self, SharedError> {
        metrics.up(false);
        let inner = Inner {
            blueprint: Blueprint::new(settings).map_err(SharedError)?,
            timeout: settings.timeout,
            prefix: settings.prefix.clone(),
            answer_bytes_max: settings.answer_bytes_max,
            link: watch::Sender::new(None),
            timeouts: AtomicU32::new(0),
            complained: AtomicBool::new(false),
            lost: Notify::new(),
            generation: Mutex::default(),
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether it answers, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.link.borrow().is_some()
    }

    fn link(&self) -> RedisResult<MultiplexedConnection> {
        self.inner.link.borrow().clone().ok_or_else(absent)
    }

    /// Asks, without a judgement on how that went.
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut link = self.link()?;
        tokio::time::timeout(self.inner.timeout, command.query_async(&mut link)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        self.judge(self.query(command).await)
    }

    /// Asks several things in one round trip.
    async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Away> {
        let asked = async {
            let mut link = self.link()?;
            tokio::time::timeout(self.inner.timeout, commands.query_async(&mut link))
                .await
                .unwrap_or_else(|_| Err(late()))
        };
        self.judge(asked.await)
    }

    /// Takes in how a question went.
    fn judge<T>(&self, asked: RedisResult<T>) -> Result<T, Away> {
        match asked {
            Ok(answer) => {
                self.inner.timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => {
                self.failed(&error);
                Err(Away)
            }
        }
    }

    fn failed(&self, error: &RedisError) {
        if !self.is_up() {
            return;
        }
        self.inner.metrics.failed();
        if error.is_timeout() {
            if self.inner.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
                self.went(error);
            }
        } else if is_gone(error) {
            self.went(error);
        } else if !self.inner.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(redis = %self.inner.blueprint, %error, "Redis refuses what it is asked");
        }
    }

    fn came(&self, link: MultiplexedConnection) {
        self.inner.timeouts.store(0, Ordering::Relaxed);
        self.inner.complained.store(false, Ordering::Relaxed);
        if self.inner.link.send_replace(Some(link)).is_none() {
            self.inner.metrics.up(true);
            tracing::info!(redis = %self.inner.blueprint, "Redis is up");
        }
    }

    fn went(&self, error: &RedisError) {
        if self.inner.link.send_replace(None).is_some() {
            self.inner.metrics.up(false);
            tracing::warn!(redis = %self.inner.blueprint, %error, "Redis is away; everything goes on without it");
            self.inner.lost.notify_one();
        }
    }

    /// The answers' generation, as last heard.
    fn generation(&self) -> Option<Arc<str>> {
        self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard(&self, generation: Option<&str>) {
        let mut known = self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != generation {
            *known = generation.map(Arc::from);
        }
    }
}

/// Whether a connection is of no use any more, or leads to a server that is not the master any more.
fn is_gone(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown)
        )
}

fn absent() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}
