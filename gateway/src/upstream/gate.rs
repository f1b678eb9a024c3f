//! Gate: so many requests under way at one upstream, and so many that wait for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::config::checked::Breaker;

/// The bounds of one upstream.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    patience: Duration,
}

/// A place at the gate, given back when dropped.
#[derive(Debug)]
pub(crate) struct Passage {
    _permit: OwnedSemaphorePermit,
}

/// There is no place, and too many wait, or this one has waited too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Gate {
    pub(super) fn new(settings: &Breaker) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.max_requests as usize)),
            waiting: AtomicUsize::new(0),
            waiting_max: settings.max_pending as usize,
            patience: settings.pending_timeout.duration(),
        }
    }

    /// Takes a place, or waits for one.
    pub(super) async fn pass(&self) -> Result<Passage, Crowded> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => return Ok(Passage { _permit: permit }),
            Err(TryAcquireError::Closed) => return Err(Crowded),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _turn = Turn::take(&self.waiting, self.waiting_max).ok_or(Crowded)?;
        let permit = tokio::time::timeout(self.patience, Arc::clone(&self.places).acquire_owned()).await;
        permit.map_err(|_| Crowded)?.map(|permit| Passage { _permit: permit }).map_err(|_| Crowded)
    }
}

/// One of those that wait. Counted until it is dropped, also when the client leaves.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Self(waiting));
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
