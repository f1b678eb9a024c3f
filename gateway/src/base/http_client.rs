//! HTTP client: how the gateway asks on its own account, for key sets, keys and health.

use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Idle connections kept for one host.
const IDLE_PER_HOST_MAX: usize = 8;

/// A client in the making: no proxy from the environment, and no redirects to somewhere else. Each request sets its own
/// deadline.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
}
