//! Active checks: one task an endpoint asks for a path at an interval.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::checked::Health;
use crate::upstream::pool::{Endpoint, Pool};

/// Starts the checks of a pool. They end by themselves when the pool is gone.
pub(crate) fn start(pool: &Arc<Pool>, health: &Health, client: &reqwest::Client) {
    for endpoint in pool.endpoints() {
        let check = Check {
            pool: Arc::clone(&pool.name),
            url: format!("http://{}{}", endpoint.address, health.http.value),
            every: health.every.duration(),
            timeout: health.timeout.duration(),
            client: client.clone(),
        };
        tokio::spawn(check.run(Arc::downgrade(endpoint)));
    }
}

struct Check {
    pool: Arc<str>,
    url: String,
    every: Duration,
    timeout: Duration,
    client: reqwest::Client,
}

impl Check {
    async fn run(self, endpoint: Weak<Endpoint>) {
        // The first check is due at once; the others are spread, so that a fleet of gateways does not ask in step.
        let mut wait = Duration::ZERO;
        loop {
            tokio::time::sleep(wait).await;
            let success = self.once().await;
            let Some(endpoint) = endpoint.upgrade() else { return };
            self.note(&endpoint, success);
            // An endpoint on its way back is asked again sooner, so that it is back within two intervals.
            let recovering = success && !endpoint.is_fit();
            wait = spread(if recovering { self.every / 2 } else { self.every });
        }
    }

    async fn once(&self) -> bool {
        let answer = self.client.get(&self.url).timeout(self.timeout).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn note(&self, endpoint: &Endpoint, success: bool) {
        if let Some(healthy) = endpoint.health.report(success) {
            tracing::warn!(upstream = %self.pool, endpoint = %endpoint.label, healthy, "endpoint health changed");
        }
    }
}

/// The interval less up to a tenth.
fn spread(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - rand::random::<f64>() / 10.0)
}
