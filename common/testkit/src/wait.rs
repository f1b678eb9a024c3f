//! Wait: until something is so, and never longer than it may take.
//!
//! For: every place where a test depends on what another process does. May touch: the clock.
//! Promises: a wait that runs out fails the test and says what it waited for.

use std::time::{Duration, Instant};

/// How long between two looks. Short against every deadline in these tests, long against the cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a program may take for what it does at once on an idle machine. Tests run beside each other on few cores.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Looks again and again until there is something to return.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits for a future, but not for ever.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(limit, future).await;
    ended.unwrap_or_else(|_| panic!("waited {limit:?} in vain: {what}"))
}
