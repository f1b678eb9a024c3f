//! Keeper: opens the connection, looks every second whether it is still good, and opens it anew when it is not.
//!
//! For: `app`, which lets it run beside everything else. May touch: the network.
//! Promises: attempts follow each other at growing distances; an outage is told once.
//! Read next: `mod.rs` for how a question notices that the server has gone.

use std::time::{Duration, Instant};

use common::redis::late;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};

use super::Shared;

/// How often the server is looked at.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// First wait before the next attempt to connect; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// How long an answer to what no request waits for may take.
const PATIENCE: Duration = Duration::from_secs(1);

impl Shared {
    /// Keeps the server connected. It never returns: whoever runs it drops it at the end.
    pub async fn keep(&self) {
        let mut retry = FIRST_RETRY;
        let mut told = false;
        loop {
            match self.open().await {
                Ok(link) => {
                    self.came(link);
                    let came = Instant::now();
                    self.watch().await;
                    // That it has gone was told where it was noticed.
                    told = true;
                    if came.elapsed() >= HEARTBEAT {
                        retry = FIRST_RETRY;
                    }
                }
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(redis = %self.inner.blueprint, %error, "Redis cannot be reached");
                }
                Err(_) => {}
            }
            sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    async fn open(&self) -> RedisResult<MultiplexedConnection> {
        let link = self.inner.blueprint.connect(PATIENCE).await?;
        self.beat(link.clone()).await?;
        Ok(link)
    }

    /// Returns when the connection is no good any more.
    async fn watch(&self) {
        loop {
            // Woken or not, the next line tells how things are.
            let _ = timeout(HEARTBEAT, self.inner.lost.notified()).await;
            let Ok(link) = self.link() else { return };
            if let Err(error) = self.beat(link).await {
                self.went(&error);
                return;
            }
        }
    }

    /// A question that shows whether the server lives, and tells whether answers were forgotten elsewhere.
    async fn beat(&self, mut link: MultiplexedConnection) -> RedisResult<()> {
        let question = self.generation_question();
        let asked = question.query_async::<Option<String>>(&mut link);
        let generation = timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))?;
        self.heard(generation.as_deref());
        Ok(())
    }
}
