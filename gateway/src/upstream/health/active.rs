//! Active checks: one task an endpoint asks for a path at an interval.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use common::telemetry::with_causes;

use crate::base::http_client;
use crate::config::checked::{Health, Protocol};
use crate::upstream::pool::{Endpoint, Pool};
use crate::upstream::trust::Trust;

/// Starts the checks of a pool. They end by themselves when the pool is gone.
pub(crate) fn start(pool: &Arc<Pool>, health: &Health, client: &reqwest::Client) {
    for endpoint in pool.endpoints() {
        let (client, origin) = match pool.trust() {
            None if pool.protocol == Protocol::Http1 => (Ok(client.clone()), format!("http://{}", endpoint.address)),
            None => {
                let client = http_client::builder().http2_prior_knowledge().build();
                (client, format!("http://{}", endpoint.address))
            }
            Some(trust) => (
                verifying_client(trust, endpoint.address),
                format!("https://{}:{}", trust.name, endpoint.address.port()),
            ),
        };
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(upstream = %pool.name, endpoint = %endpoint.label, error, "endpoint cannot be checked");
                continue;
            }
        };
        let check = Check {
            pool: Arc::clone(&pool.name),
            url: format!("{origin}{}", health.http.value),
            every: health.every.duration(),
            timeout: health.timeout.duration(),
            client,
        };
        tokio::spawn(check.run(Arc::downgrade(endpoint)));
    }
}

/// A client that finds the upstream's name at this address, and believes whom requests believe.
fn verifying_client(trust: &Trust, address: SocketAddr) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = http_client::builder().resolve(&trust.name, address);
    if let Some(authorities) = &trust.authorities {
        let known = authorities.iter().map(|der| reqwest::Certificate::from_der(der));
        builder = builder.tls_certs_only(known.collect::<Result<Vec<_>, _>>()?);
    }
    builder.build()
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
