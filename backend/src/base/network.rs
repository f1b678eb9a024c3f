//! Network: which address a request came from.
//!
//! For: throttling and the audit log. May touch: nothing.
//! Promises: `X-Forwarded-For` counts only when the peer is a trusted proxy, and then the right-most entry that is not
//! itself one: whatever a client writes further left gains nothing.
//! Read next: `api/middleware.rs`.

use std::net::{IpAddr, Ipv4Addr};

use common::forwarded;
use ipnet::IpNet;

/// The bits of an IPv6 address that one client site usually holds (RFC 6177).
const IPV6_SITE_BITS: u8 = 64;

/// The client's address, from the socket's peer and the `X-Forwarded-For` values in header order.
pub fn client_address<'h>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'h str>,
    trusted: &[IpNet],
) -> IpAddr {
    forwarded::client(peer, values, |address| is_trusted(address, trusted))
}

/// What counts as one client for throttling: an IPv4 address, or the /64 of an IPv6 address.
#[must_use]
pub fn client_site(address: IpAddr) -> IpAddr {
    forwarded::network(address, IPV6_SITE_BITS)
}

/// The address of a connection whose peer is not known, which happens only in tests of the router alone.
pub const UNKNOWN_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether this is a proxy's address whose word counts. IPv4 addresses in their own form.
#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}
