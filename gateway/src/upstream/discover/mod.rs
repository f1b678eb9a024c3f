//! Discover: where the servers are, for upstreams that do not list them.
//!
//! For: looking at an interval and telling the pool. May touch: name servers, files of addresses.
//! Promises: what was found last is kept when nothing can be found; the first look is at once; it ends with its pool.
//! Read next: `dns.rs`.

mod dns;
mod file;

use std::sync::Arc;
use std::time::Duration;

use super::pool::Pool;
use crate::config::checked::{Source, Target};

pub(crate) use file::read;

/// While nothing was ever found, how often to look.
const FIRST_LOOKS_EVERY: Duration = Duration::from_millis(250);

/// Looks at the pool's interval, until the pool is gone. Does nothing where the servers are listed.
pub(crate) fn follow(pool: &Arc<Pool>) {
    let (every, mut look): (Duration, Box<dyn Look>) = match pool.source() {
        Source::Fixed(_) => return,
        Source::Dns { name, servers, every } => match dns::Dns::new(name.clone(), servers) {
            Ok(dns) => (*every, Box::new(dns)),
            Err(error) => {
                tracing::error!(upstream = %pool.name, error, "names cannot be looked up");
                return;
            }
        },
        Source::File { file, every } => (*every, Box::new(file::File::new(file.value.clone()))),
    };
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        let (mut found_once, mut failing) = (false, false);
        loop {
            let found = look.look().await;
            let Some(pool) = pool.upgrade() else { return };
            match found {
                Ok(targets) if !targets.is_empty() => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(upstream = %pool.name, "servers can be found again");
                    }
                    found_once = true;
                    pool.update(&targets);
                }
                outcome => {
                    let error = outcome.err().unwrap_or_else(|| "nobody is there".to_owned());
                    // Once an outage.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(upstream = %pool.name, error, "servers cannot be found, those of before are kept");
                    }
                }
            }
            drop(pool);
            tokio::time::sleep(if found_once { every } else { every.min(FIRST_LOOKS_EVERY) }).await;
        }
    });
}

/// One way to find servers.
#[async_trait::async_trait]
trait Look: Send {
    /// Where they are now; an error, in words for the log, when nobody can say.
    async fn look(&mut self) -> Result<Vec<Target>, String>;
}
