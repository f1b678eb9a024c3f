//! Discover: where the servers are, for upstreams that do not list them.
//!
//! For: looking at an interval, or being told, and telling the pool. May touch: name servers, files of addresses, the API server of
//! Kubernetes. Promises: what was found last is kept when nothing can be found; the first look is at once; it ends with its pool.
//! Read next: `dns.rs`, then `kubernetes/mod.rs`.

mod dns;
mod file;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(not(feature = "kubernetes"))]
#[path = "kubernetes_off.rs"]
mod kubernetes;

use std::sync::{Arc, Weak};
use std::time::Duration;

use common::backoff;
use common::settings::Mistake;

use super::pool::Pool;
use crate::config::checked::{Source, Target};

#[cfg(any(test, fuzzing))]
pub(crate) use file::parse;

/// While nothing was ever found, how often to look.
const FIRST_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// The longest wait before somebody who tells of changes, and cannot, is asked again.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);

/// How soon it is noticed that the pool is gone.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// Whether the files that a source needs can be used now. They are read again later.
///
/// # Errors
/// The first one that cannot, at its key.
pub(crate) fn check(source: &Source) -> Result<(), Mistake> {
    match source {
        Source::Fixed(_) | Source::Dns { .. } => Ok(()),
        Source::File { file: at, .. } => {
            let told = |message| Mistake { position: at.position, path: at.path.clone(), message };
            file::read(&at.value).map(|_| ()).map_err(|report| told(report.to_string()))
        }
        Source::Kubernetes(settings) => kubernetes::check(settings),
    }
}

/// Looks at the pool's interval, or as soon as there is news, until the pool is gone. Does nothing where the servers are listed.
pub(crate) fn follow(pool: &Arc<Pool>) {
    let (every, look): (Duration, Box<dyn Look>) = match pool.source() {
        Source::Fixed(_) => return,
        Source::Dns { name, servers, every } => match dns::Dns::new(name.clone(), servers) {
            Ok(dns) => (*every, Box::new(dns)),
            Err(error) => {
                tracing::error!(upstream = %pool.name, error, "names cannot be looked up");
                return;
            }
        },
        Source::File { file, every } => (*every, Box::new(file::File::new(file.value.clone()))),
        Source::Kubernetes(settings) => (Duration::ZERO, Box::new(kubernetes::Kubernetes::new((**settings).clone()))),
    };
    tokio::spawn(keep_looking(Arc::downgrade(pool), look, every));
}

/// Looks, tells the pool and waits, until the pool is gone.
async fn keep_looking(pool: Weak<Pool>, mut look: Box<dyn Look>, every: Duration) {
    let (mut found_once, mut failures) = (false, 0_u32);
    loop {
        let found = tokio::select! {
            found = look.look() => found,
            () = gone(&pool) => return,
        };
        let Some(alive) = pool.upgrade() else { return };
        match found {
            Ok(targets) if !targets.is_empty() || look.is_told() => {
                if std::mem::take(&mut failures) > 0 {
                    tracing::info!(upstream = %alive.name, "servers can be found again");
                }
                found_once = true;
                alive.update(&targets);
            }
            outcome => {
                let error = outcome.err().unwrap_or_else(|| "nobody is there".to_owned());
                // Once an outage.
                if failures == 0 {
                    tracing::warn!(upstream = %alive.name, error, "servers cannot be found, those of before are kept");
                }
                failures = failures.saturating_add(1);
            }
        }
        drop(alive);
        let wait = if look.is_told() {
            again_after(failures)
        } else if found_once {
            every
        } else {
            every.min(FIRST_LOOKS_EVERY)
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = gone(&pool) => return,
        }
    }
}

/// Returns when nobody holds the pool any more.
async fn gone(pool: &Weak<Pool>) {
    while pool.strong_count() > 0 {
        tokio::time::sleep(GONE_WITHIN).await;
    }
}

/// How long to wait after so many failures in a row: doubled each time up to a bound, less up to a half. Not at all after none.
fn again_after(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    backoff::spread(backoff::wait_after(failures, FIRST_LOOKS_EVERY, AGAIN_AFTER_MAX))
}

/// One way to find servers.
#[async_trait::async_trait]
trait Look: Send {
    /// Where they are now; an error, in words for the log, when nobody can say.
    async fn look(&mut self) -> Result<Vec<Target>, String>;

    /// Whether it is told of changes. Then a look lasts until there is one, and that nobody is there is news like any other.
    fn is_told(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::telemetry::metrics::Metrics;
    use crate::config;
    use crate::config::checked::Place;

    /// Finds one server, at once.
    struct One;

    #[async_trait::async_trait]
    impl Look for One {
        async fn look(&mut self) -> Result<Vec<Target>, String> {
            Ok(vec![Target { at: Place::Ip(([127, 0, 0, 1], 1).into()), weight: 1 }])
        }
    }

    #[tokio::test]
    async fn looking_ends_with_the_pool_however_long_the_interval() {
        let text =
            "version: 1\nlisteners: { http: { bind: 127.0.0.1:0 } }\nupstreams:\n  api: { targets: [127.0.0.1:2] }\n";
        let config = config::parse("test", text).expect("a sound configuration");
        let metrics = Arc::new(Metrics::new().expect("names are unique"));
        let pool = Arc::new(Pool::new(&config.upstreams[0], None, None, &metrics));
        let looking = tokio::spawn(keep_looking(Arc::downgrade(&pool), Box::new(One), Duration::from_hours(1)));
        while &*pool.endpoints()[0].label != "127.0.0.1:1" {
            tokio::task::yield_now().await;
        }
        drop(pool);
        tokio::time::timeout(10 * GONE_WITHIN, looking).await.expect("it ends").expect("no panic");
    }

    #[test]
    fn waits_grow_up_to_a_bound_and_are_spread() {
        assert_eq!(again_after(0), Duration::ZERO);
        for (failures, longest_ms) in [(1, 250), (2, 500), (3, 1000), (8, 30_000), (u32::MAX, 30_000)] {
            let longest = Duration::from_millis(longest_ms);
            let wait = again_after(failures);
            assert!(wait <= longest && wait >= longest / 2, "{failures}: {wait:?}");
        }
    }
}
