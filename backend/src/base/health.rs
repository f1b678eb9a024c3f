//! Health: how a part of the program says whether it works.
//!
//! For: `/health/detailed`, which asks parts it need not know. May touch: nothing.
//! Promises: a probe is asked with a deadline of its own; one that does not answer counts as away; what a failure was is
//! told in a word from a short list, and its text goes to the log alone.
//! Read next: `api/rest/health.rs`, `storage/mod.rs` for the database's probe, `query/reach.rs` for those of servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

/// How long one part may take to say that it works.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// The word for a part that did not answer in time.
pub const TIMEOUT: &str = "timeout";

/// A part that can be asked whether it works.
pub trait Probe: Send + Sync {
    /// What the part is called in answers.
    fn name(&self) -> &str;

    /// Whether nothing works without it. What others stand in for, or few requests need, is not.
    fn is_needed(&self) -> bool {
        true
    }

    /// The word for a failure that is no timeout.
    fn failure(&self) -> &'static str {
        "failed"
    }

    /// Asks it. The error's text goes to the log, never to the client.
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// What came of asking a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What went wrong, in a word; nothing, if `None`.
    pub failure: Option<&'static str>,
    /// How long it took to say so.
    pub took: Duration,
}

/// Asks the part, for `PROBE_DEADLINE` at most. What went wrong goes to the log.
pub async fn ask(probe: &Arc<dyn Probe>) -> Probed {
    let started = Instant::now();
    let failure = match tokio::time::timeout(PROBE_DEADLINE, probe.check()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::error!(part = probe.name(), error, "a part does not work");
            Some(probe.failure())
        }
        Err(_) => {
            tracing::error!(part = probe.name(), "a part did not answer within {PROBE_DEADLINE:?}");
            Some(TIMEOUT)
        }
    };
    Probed { failure, took: started.elapsed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works, fails, or says nothing at all.
    struct Part(Option<Result<(), String>>);

    impl Probe for Part {
        fn name(&self) -> &'static str {
            "part"
        }

        fn check(&self) -> BoxFuture<'_, Result<(), String>> {
            match self.0.clone() {
                Some(outcome) => Box::pin(std::future::ready(outcome)),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    #[tokio::test]
    async fn a_part_works_fails_or_does_not_answer() {
        let ask = async |outcome| ask(&(Arc::new(Part(outcome)) as Arc<dyn Probe>)).await.failure;
        assert_eq!(ask(Some(Ok(()))).await, None);
        assert_eq!(ask(Some(Err("a secret cause".into()))).await, Some("failed"));
        assert_eq!(ask(None).await, Some("timeout"));
    }
}
