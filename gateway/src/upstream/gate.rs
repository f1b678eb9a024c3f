//! Gate: so many requests under way at one upstream, and so many that wait for a place.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::checked::Breaker;

/// The bounds of one upstream. As long as there are places, one costs two steps of a counter and no lock.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Places>,
    waiting_max: usize,
    patience: Duration,
}

#[derive(Debug)]
struct Places {
    most: usize,
    taken: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
}

/// A place at the gate, given back when dropped.
#[derive(Debug)]
pub(crate) struct Passage(Arc<Places>);

/// There is no place, and too many wait, or this one has waited too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Gate {
    pub(super) fn new(settings: &Breaker) -> Self {
        let places = Places {
            most: settings.max_requests as usize,
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        };
        Self {
            places: Arc::new(places),
            waiting_max: settings.max_pending as usize,
            patience: settings.pending_timeout.duration(),
        }
    }

    /// Takes a place, or waits for one.
    pub(super) async fn pass(&self) -> Result<Passage, Crowded> {
        if let Some(passage) = Passage::take(&self.places) {
            return Ok(passage);
        }
        let _turn = Turn::take(&self.places.waiting, self.waiting_max).ok_or(Crowded)?;
        let waiting = async {
            let mut freed = pin!(self.places.freed.notified());
            loop {
                // In the row before the look, so that a place that is freed in between is not missed. For those who are not
                // in it yet, two places that are freed at once are one wake-up.
                freed.as_mut().enable();
                if let Some(passage) = Passage::take(&self.places) {
                    return passage;
                }
                freed.as_mut().await;
                freed.set(self.places.freed.notified());
            }
        };
        tokio::time::timeout(self.patience, waiting).await.map_err(|_| Crowded)
    }
}

impl Passage {
    /// Never counts more than there are, not for a moment: whoever was woken by a place would find none, and sleep on.
    fn take(places: &Arc<Places>) -> Option<Self> {
        let mut taken = places.taken.load(Ordering::SeqCst);
        while taken < places.most {
            match places.taken.compare_exchange_weak(taken, taken + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(Self(Arc::clone(places))),
                Err(now) => taken = now,
            }
        }
        None
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        // In one order with those who begin to wait and then look: one of the two sees the other.
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.freed.notify_one();
        }
    }
}

/// One of those that wait. Counted until it is dropped, also when the client leaves.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::SeqCst) < most {
            return Some(Self(waiting));
        }
        waiting.fetch_sub(1, Ordering::SeqCst);
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(breaker: &str) -> Arc<Gate> {
        let text = format!(
            "version: 1\nlisteners: {{ http: {{ bind: 127.0.0.1:0 }} }}\nupstreams:\n  a: {{ targets: [127.0.0.1:1], breaker: {{ {breaker} }} }}\n"
        );
        let config = crate::config::parse("test", &text).expect("a sound configuration");
        Arc::new(Gate::new(&config.upstreams[0].breaker))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_place_that_is_free_is_not_waited_for() {
        // Where a wake-up is lost, the last of a round sleeps for its whole patience, far beyond the round's.
        const ROUNDS: usize = 2000;
        const ROUND: Duration = Duration::from_secs(10);
        let gate = gate("max_requests: 2, max_pending: 16, pending_timeout: 60s");
        for round in 0..ROUNDS {
            let passing: Vec<_> = (0..8)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    tokio::spawn(async move { gate.pass().await.map(drop) })
                })
                .collect();
            for passing in passing {
                let passed = tokio::time::timeout(ROUND, passing).await;
                assert_eq!(passed.expect("nobody sleeps on").expect("no panic"), Ok(()), "{round}");
            }
            assert_eq!(gate.places.taken.load(Ordering::SeqCst), 0, "{round}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_place_that_is_freed() {
        let gate = gate("max_requests: 2, max_pending: 2, pending_timeout: 5s");
        let (first, second) = (gate.pass().await.expect("a place"), gate.pass().await.expect("a place"));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move { gate.pass().await.map(drop) })
            })
            .collect();
        while gate.places.waiting.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gate.pass().await.map(drop), Err(Crowded), "two may wait");
        drop(first);
        for waiting in waiting {
            assert_eq!(waiting.await.expect("no panic"), Ok(()), "one after the other through the one place");
        }
        drop(second);
        assert_eq!(gate.places.taken.load(Ordering::SeqCst), 0);
    }
}
