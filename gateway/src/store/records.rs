//! Records: what gateways keep in the store besides limits: what was withdrawn, API keys, and when they were used.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use common::clock::{Clock as _, SystemClock};
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, cmd, pipe};

use super::link::Link;
use super::{Away, Store};

/// Uses of keys that wait to be written.
const KEY_USES_MAX: usize = 10_000;

/// What the store says of withdrawals.
#[derive(Debug)]
pub(crate) struct Withdrawals {
    /// Changes with every withdrawal.
    pub version: u64,
    /// All of them, when the version is another than the one that was known.
    pub members: Option<Vec<Vec<u8>>>,
}

impl Store {
    /// What was withdrawn, when there is news since `version`; at most so many.
    ///
    /// # Errors
    /// `Away` when the store does not answer in time.
    pub(crate) async fn withdrawn(&self, version: u64, most: usize) -> Result<Withdrawals, Away> {
        let current: Option<u64> = self.query(cmd("GET").arg(self.withdrawn_key("version"))).await?;
        let current = current.unwrap_or(0);
        if current == version {
            return Ok(Withdrawals { version: current, members: None });
        }
        let mut question = cmd("ZRANGE");
        question.arg(self.withdrawn_key("list")).arg(0).arg(most.saturating_sub(1)).arg("REV");
        Ok(Withdrawals { version: current, members: Some(self.query(&question).await?) })
    }

    /// Adds a withdrawal that is remembered until `ends`, in Unix seconds; those that have ended are forgotten.
    ///
    /// # Errors
    /// `Away` when the store does not answer in time.
    pub(crate) async fn withdraw(&self, ends: u64, member: &[u8]) -> Result<(), Away> {
        let (list, version) = (self.withdrawn_key("list"), self.withdrawn_key("version"));
        let now = SystemClock.unix_seconds();
        let mut pipeline = pipe();
        pipeline.atomic();
        pipeline.cmd("ZADD").arg(&list).arg(ends).arg(member).ignore();
        pipeline.cmd("ZREMRANGEBYSCORE").arg(&list).arg("-inf").arg(now).ignore();
        pipeline.cmd("INCR").arg(&version).ignore();
        self.run(&pipeline).await
    }

    /// What is kept of an API key, in JSON.
    ///
    /// # Errors
    /// `Away` when the store does not answer in time.
    pub(crate) async fn key(&self, id: &str) -> Result<Option<Vec<u8>>, Away> {
        self.query(cmd("GET").arg(format!("{}:key:{id}", self.prefix()))).await
    }

    /// Notes that a key was used, to be written with the next heartbeat. With more keys than can be noted, some are not.
    pub(crate) fn note_key_use(&self, id: &str, unix_seconds: u64) {
        let mut uses = self.key_uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = uses.get_mut(id) {
            *last = unix_seconds;
        } else if uses.len() < KEY_USES_MAX {
            uses.insert(id.into(), unix_seconds);
        }
    }

    /// Writes down when keys were last used: `PREFIX:key-uses`, a hash from id to Unix seconds.
    pub(super) async fn write_key_uses(&self) {
        let uses: HashMap<Box<str>, u64> =
            std::mem::take(&mut *self.key_uses.lock().unwrap_or_else(PoisonError::into_inner));
        if uses.is_empty() {
            return;
        }
        let mut command = cmd("HSET");
        command.arg(format!("{}:key-uses", self.prefix()));
        for (id, seconds) in &uses {
            command.arg(&**id).arg(*seconds);
        }
        if self.query::<i64>(&command).await.is_err() {
            // They are noted again, unless there was a later use meanwhile.
            let mut kept = self.key_uses.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, seconds) in uses {
                kept.entry(id).or_insert(seconds);
            }
        }
    }

    /// Both keys of the withdrawals live on one node of a cluster.
    fn withdrawn_key(&self, part: &str) -> String {
        format!("{{{}:withdrawn}}:{part}", self.prefix())
    }

    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        let Some(link) = self.link.load_full().filter(|_| self.is_up()) else { return Err(Away) };
        let asked = tokio::time::timeout(self.settings.timeout, async {
            match (*link).clone() {
                Link::One(mut connection) => command.query_async(&mut connection).await,
                Link::Cluster(mut connection) => command.query_async(&mut connection).await,
            }
        });
        self.judged(asked.await)
    }

    async fn run(&self, pipeline: &Pipeline) -> Result<(), Away> {
        let Some(link) = self.link.load_full().filter(|_| self.is_up()) else { return Err(Away) };
        let asked = tokio::time::timeout(self.settings.timeout, async {
            match (*link).clone() {
                Link::One(mut connection) => pipeline.query_async::<()>(&mut connection).await,
                Link::Cluster(mut connection) => pipeline.query_async::<()>(&mut connection).await,
            }
        });
        self.judged(asked.await)
    }

    fn judged<T>(&self, outcome: Result<RedisResult<T>, tokio::time::error::Elapsed>) -> Result<T, Away> {
        match outcome.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())) {
            Ok(answer) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }
}
