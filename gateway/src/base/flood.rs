//! Flood: a coarse guard against floods from one address, before anything costs more than a count.
//!
//! For: connections before their handshake, requests before their stages. May touch: memory of fixed size.
//! Promises: it may count a stranger in with a crowd, never one too few; limits are elsewhere, and exact.

use std::net::IpAddr;
use std::time::Duration;

use pingora_limits::rate::Rate;

/// How much is too much; 0 for no guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloodLimits {
    pub connections_per_second: u32,
    pub requests_per_second: u32,
}

/// What every address did this second.
pub(crate) struct FloodGuard {
    connections: Rate,
    requests: Rate,
}

impl FloodGuard {
    pub(crate) fn new() -> Self {
        let second = Duration::from_secs(1);
        Self { connections: Rate::new(second), requests: Rate::new(second) }
    }

    /// Notes a connection; whether it is one too many.
    pub(crate) fn connection(&self, address: IpAddr, limits: FloodLimits) -> bool {
        is_too_many(&self.connections, address, limits.connections_per_second)
    }

    /// Notes a request; whether it is one too many.
    pub(crate) fn request(&self, address: IpAddr, limits: FloodLimits) -> bool {
        is_too_many(&self.requests, address, limits.requests_per_second)
    }
}

fn is_too_many(rate: &Rate, address: IpAddr, most: u32) -> bool {
    most > 0 && rate.observe(&address, 1) > isize::try_from(most).unwrap_or(isize::MAX)
}

impl std::fmt::Debug for FloodGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FloodGuard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_noticed_address_by_address() {
        let guard = FloodGuard::new();
        let limits = FloodLimits { connections_per_second: 0, requests_per_second: 10 };
        let [one, other] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        assert!((0..10).all(|_| !guard.request(one, limits)));
        assert!(guard.request(one, limits) && !guard.request(other, limits));
        assert!((0..1000).all(|_| !guard.connection(one, limits)), "0 is no guard");
    }
}
