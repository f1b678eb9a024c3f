//! Probe: whether the shared server answers.
//!
//! For: `/health/detailed` on the internal listener. May touch: the connection that is there.
//! Promises: one question, within `redis.timeout`; nothing waits for a server that is known to be away.
//! Read next: `base/health.rs`.

use futures::future::BoxFuture;

use super::Shared;
use crate::base::health::Probe;

impl Probe for Shared {
    fn name(&self) -> &'static str {
        "redis"
    }

    /// Everything goes on without it.
    fn is_needed(&self) -> bool {
        false
    }

    fn failure(&self) -> &'static str {
        "unreachable"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let answered = self.ask::<String>(&redis::cmd("PING")).await;
            answered.map(drop).map_err(|_| "Redis does not answer".to_owned())
        })
    }
}
