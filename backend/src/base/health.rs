//! Health: how a part of the program says whether it works.
//!
//! For: `/health/detailed`, which asks parts it need not know. May touch: nothing.
//! Promises: a probe is asked with a deadline; one that does not answer counts as away.
//! Read next: `api/rest/health.rs`, and `storage/mod.rs` for the database's probe.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

/// How long one part may take to say that it works.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// A part that can be asked whether it works.
pub trait Probe: Send + Sync {
    /// What the part is called in answers.
    fn name(&self) -> &'static str;

    /// Asks it. The error's text goes to the log, never to the client.
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Asks the part, for `PROBE_DEADLINE` at most.
///
/// # Errors
/// What the part said, or that it did not answer in time.
pub async fn ask(probe: &Arc<dyn Probe>) -> Result<(), String> {
    match tokio::time::timeout(PROBE_DEADLINE, probe.check()).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {PROBE_DEADLINE:?}")),
    }
}
