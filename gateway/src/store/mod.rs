//! Store: what gateways share, in Redis.
//!
//! For: limits that hold over all gateways and how many of them there are, what was withdrawn, and API keys. May touch: the Redis server of the configuration.
//! Promises: a question has one deadline, and none is asked while the store is known to be away; whoever asks goes on without
//! an answer; the store's coming and going is logged once each and shown in `gateway_limit_store_up`; a password is in no
//! log line. Read next: `limits.rs` for what is asked, `keeper.rs` for the connection, `spend.lua` for the one round trip.

mod keeper;
mod limits;
mod link;
mod records;
mod vault;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, mpsc};

use crate::base::telemetry::metrics::StoreMetrics;
use crate::config::checked::Redis;

pub(crate) use keeper::keep;
pub(crate) use limits::{Answers, Meter, Question, Settlement};
pub(crate) use link::Blueprint;
use link::Link;
pub(crate) use vault::{Vault, VaultError, is_token};

/// Timeouts in a row after which the store counts as away. A broken connection does so at once.
const TIMEOUTS_MAX: u32 = 3;

/// Settlements that may wait to be sent.
const SETTLEMENTS_MAX: usize = 4096;

/// The store is away, or did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

/// The store, as the limits see it.
#[derive(Debug)]
pub(crate) struct Store {
    blueprint: Blueprint,
    settings: Redis,
    /// Who this gateway is among those that share.
    id: String,
    link: ArcSwapOption<Link>,
    up: AtomicBool,
    timeouts: AtomicU32,
    /// Gateways alive when it was last heard, this one included.
    replicas: AtomicU32,
    /// Told when a question has found the store away.
    lost: Notify,
    settlements: mpsc::Sender<Settlement>,
    /// The other end, until `keep` takes it.
    waiting: Mutex<Option<mpsc::Receiver<Settlement>>>,
    /// When keys were last used, by their ids, until the next heartbeat writes it down.
    key_uses: Mutex<HashMap<Box<str>, u64>>,
    metrics: StoreMetrics,
}

impl Store {
    /// A store that is away until `keep` has reached it.
    pub(crate) fn new(settings: Redis, blueprint: Blueprint, metrics: StoreMetrics) -> Self {
        let (settlements, waiting) = mpsc::channel(SETTLEMENTS_MAX);
        Self {
            blueprint,
            settings,
            id: uuid::Uuid::now_v7().to_string(),
            link: ArcSwapOption::empty(),
            up: AtomicBool::new(false),
            timeouts: AtomicU32::new(0),
            replicas: AtomicU32::new(1),
            lost: Notify::new(),
            settlements,
            waiting: Mutex::new(Some(waiting)),
            key_uses: Mutex::default(),
            metrics,
        }
    }

    /// Whether it is reached in the same way, with the same secret and the same authorities.
    pub(crate) fn is_like(&self, settings: &Redis, blueprint: &Blueprint) -> bool {
        self.settings == *settings && self.blueprint == *blueprint
    }

    /// What the names of all keys begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// Whether it answers, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Gateways that share the limits: alive when that was last known, at least one.
    pub(crate) fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed).max(1).into()
    }

    fn came(&self) {
        self.timeouts.store(0, Ordering::Relaxed);
        if !self.up.swap(true, Ordering::AcqRel) {
            self.metrics.up.show(true);
            tracing::info!(store = %self.blueprint, "limit store is up");
        }
    }

    fn went(&self, why: &str) {
        if self.up.swap(false, Ordering::AcqRel) {
            self.metrics.up.show(false);
            tracing::warn!(store = %self.blueprint, error = why, "limit store is away, limits go on by local shares");
            self.lost.notify_one();
        }
    }

    /// Takes in a question that had no answer.
    fn failed(&self, error: &redis::RedisError) -> Away {
        self.metrics.failures.inc();
        let late = error.is_timeout();
        if !late || self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.went(&error.to_string());
        }
        Away
    }
}

/// What is not in use is not shown. A store in its place shows itself with its next heartbeat.
impl Drop for Store {
    fn drop(&mut self) {
        self.metrics.up.hide();
    }
}
