//! Operations: what runs on one WebSocket.
//!
//! For: starting, stopping and hearing of several operations at once. May touch: the clock.
//! Promises: an operation that is stopped is dropped with everything it was waiting for; each has a deadline.
//! Read next: `socket.rs`.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, AbortHandle, BoxStream, SelectAll, abortable};

use super::outcome::Outcome;

/// What an operation brings.
pub(super) enum Part {
    /// An outcome.
    Next(Outcome),
    /// It has ended by itself.
    Last,
    /// Its time is up.
    Late,
}

/// The operations, by the names that the client gave them.
#[derive(Default)]
pub(super) struct Operations {
    parts: SelectAll<BoxStream<'static, (String, Part)>>,
    running: HashMap<String, AbortHandle>,
}

impl Operations {
    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether one of this name runs.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.running.contains_key(id)
    }

    /// Starts one, for this long at most.
    pub(super) fn start(&mut self, id: String, outcomes: BoxStream<'static, Outcome>, limit: Duration) {
        let parts = outcomes.map(Part::Next).chain(stream::iter([Part::Last]));
        let late = stream::once(async move {
            tokio::time::sleep(limit).await;
            Part::Late
        });
        let name = id.clone();
        let named = stream::select(parts, late).map(move |part| (name.clone(), part));
        let (named, handle) = abortable(named);
        self.parts.push(named.boxed());
        self.running.insert(id, handle);
    }

    /// Stops one, if it runs.
    pub(super) fn stop(&mut self, id: &str) {
        if let Some(handle) = self.running.remove(id) {
            handle.abort();
        }
    }

    /// The next part of any; `None` while none runs.
    pub(super) async fn next(&mut self) -> Option<(String, Part)> {
        self.parts.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::{Response, Value};

    fn outcome() -> Outcome {
        Outcome::of(Response::new(Value::Null), true, "r")
    }

    async fn words(operations: &mut Operations, count: usize) -> Vec<String> {
        let mut words = Vec::new();
        for _ in 0..count {
            let (id, part) = operations.next().await.expect("something runs");
            let kind = match part {
                Part::Next(_) => "next",
                Part::Last => "last",
                Part::Late => "late",
            };
            words.push(format!("{id} {kind}"));
        }
        words
    }

    #[tokio::test]
    async fn an_operation_ends_by_itself_or_at_its_deadline() {
        let mut operations = Operations::default();
        operations.start("a".into(), stream::iter([outcome(), outcome()]).boxed(), Duration::from_mins(1));
        assert_eq!(words(&mut operations, 3).await, ["a next", "a next", "a last"]);
        operations.stop("a");
        operations.start("b".into(), stream::pending().boxed(), Duration::from_millis(1));
        assert_eq!(words(&mut operations, 1).await, ["b late"]);
    }

    #[tokio::test]
    async fn an_operation_that_is_stopped_is_dropped() {
        let held = std::sync::Arc::new(());
        let mut operations = Operations::default();
        let kept = std::sync::Arc::clone(&held);
        let endless = stream::pending().map(move |()| {
            let _ = &kept;
            outcome()
        });
        operations.start("a".into(), endless.boxed(), Duration::from_mins(1));
        assert_eq!((operations.len(), operations.contains("a")), (1, true));
        operations.stop("a");
        assert!(operations.is_empty() && operations.next().await.is_none());
        assert_eq!(std::sync::Arc::strong_count(&held), 1, "whatever it held is let go");
    }
}
