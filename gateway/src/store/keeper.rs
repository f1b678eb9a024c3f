//! Keeper: opens the connection, says every second that this gateway lives, and opens it anew when it breaks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use common::redis::late;
use redis::{RedisResult, Script};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::link::Link;
use super::{Settlement, Store};

/// How often this gateway says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// After so much silence a gateway counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// First wait before the next attempt to connect; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// How long an answer to what no request waits for may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a store connected, and sends its settlements, until it is gone. Whether it was not kept before: the second
/// call for a store does nothing.
pub(crate) fn keep(store: &Arc<Store>) -> bool {
    let waiting = store.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(settlements) = waiting else { return false };
    store.metrics.up.show(false);
    tokio::spawn(keep_connected(Arc::downgrade(store)));
    tokio::spawn(settle(Arc::downgrade(store), settlements));
    true
}

async fn keep_connected(store: Weak<Store>) {
    let mut retry = FIRST_RETRY;
    let mut told = false;
    loop {
        let Some(store) = store.upgrade() else { return };
        match open(&store).await {
            Ok(()) => {
                (retry, told) = (FIRST_RETRY, false);
                watch(store).await;
            }
            Err(error) => {
                // Once an outage: that it begins is told where it was noticed, if it ever worked.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(store = %store.blueprint, %error, "limit store cannot be reached");
                }
                store.metrics.up.show(false);
                drop(store);
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

async fn open(store: &Store) -> RedisResult<()> {
    let link = store.blueprint.connect().await?;
    let replicas = heartbeat(store, &link).await?;
    store.replicas.store(replicas, Ordering::Relaxed);
    store.link.store(Some(Arc::new(link)));
    store.came();
    Ok(())
}

/// Returns when the connection is no good any more, or nobody else holds the store.
async fn watch(store: Arc<Store>) {
    let kept = Arc::downgrade(&store);
    drop(store);
    loop {
        let Some(store) = kept.upgrade() else { return };
        // Waiting with the store in hand would keep it alive for ever; a second more or less does not matter.
        let lost = timeout(HEARTBEAT, store.lost.notified()).await.is_ok();
        if lost || !store.is_up() || Arc::strong_count(&store) == 1 {
            return;
        }
        let link = store.link.load_full();
        let Some(link) = link else { return };
        match heartbeat(&store, &link).await {
            Ok(replicas) => {
                store.replicas.store(replicas, Ordering::Relaxed);
                store.metrics.up.show(store.is_up());
                store.write_key_uses().await;
            }
            Err(error) => {
                store.went(&error.to_string());
                return;
            }
        }
    }
}

/// Says that this gateway lives; how many do.
async fn heartbeat(store: &Store, link: &Link) -> RedisResult<u32> {
    let script = Script::new(include_str!("replicas.lua"));
    let mut invocation = script.key(format!("{}:gateways", store.prefix()));
    invocation.arg(&store.id).arg(u64::try_from(GONE_AFTER.as_micros()).unwrap_or(u64::MAX));
    let asked = async {
        match link.clone() {
            Link::One(mut connection) => invocation.invoke_async(&mut connection).await,
            Link::Cluster(mut connection) => invocation.invoke_async(&mut connection).await,
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
}

/// Sends settlements one after the other. While the store is away they are of no use to it: each gateway goes on from what it
/// knows itself, and tells when the store is back.
async fn settle(store: Weak<Store>, mut settlements: mpsc::Receiver<Settlement>) {
    while let Some(settlement) = settlements.recv().await {
        let Some(store) = store.upgrade() else { return };
        if let Some(link) = store.link.load_full().filter(|_| store.is_up()) {
            let sent = timeout(PATIENCE, settlement.send(&link)).await.unwrap_or_else(|_| Err(late()));
            if let Err(error) = sent {
                store.failed(&error);
            }
        }
    }
}
