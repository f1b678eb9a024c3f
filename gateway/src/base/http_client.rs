//! HTTP client: how the gateway asks on its own account, for key sets, keys and health.

use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Idle connections kept for one host.
const IDLE_PER_HOST_MAX: usize = 8;

/// A client in the making. Each request sets its own deadline.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    common::http_client::builder(CONNECT_TIMEOUT).pool_max_idle_per_host(IDLE_PER_HOST_MAX)
}
