//! Network: which address a request came from.
//!
//! For: throttling and the audit log. May touch: nothing.
//! Promises: `X-Forwarded-For` counts only when the peer is a trusted proxy, and then the right-most entry that is not
//! itself one: whatever a client writes further left gains nothing.
//! Read next: `api/middleware.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// How many entries of `X-Forwarded-For` are read, from the right.
pub const FORWARDED_HOPS_MAX: usize = 32;

/// The bits of an IPv6 address that one client site usually holds (RFC 6177).
const IPV6_SITE_BITS: u32 = 64;

/// The client's address, from the socket's peer and the `X-Forwarded-For` values in header order.
pub fn client_address<'h>(peer: IpAddr, forwarded: impl Iterator<Item = &'h str>, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client, trusted) {
        return client;
    }
    let values: Vec<&str> = forwarded.collect();
    let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        // What is not an address was not written by a proxy of ours: stop at the last one that was.
        let Some(address) = parse_hop(hop.trim()) else { return client };
        client = address;
        if !is_trusted(client, trusted) {
            return client;
        }
    }
    client
}

/// What counts as one client for throttling: an IPv4 address, or the /64 of an IPv6 address.
#[must_use]
pub fn client_site(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (128 - IPV6_SITE_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// The address of a connection whose peer is not known, which happens only in tests of the router alone.
pub const UNKNOWN_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether this is a proxy's address whose word counts. IPv4 addresses in their own form.
#[must_use]
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_right_most_untrusted_entry_is_the_client() {
        let trusted: Vec<IpNet> =
            ["127.0.0.0/8", "10.0.0.0/8"].iter().map(|text| text.parse().expect("a network")).collect();
        let cases: &[(&str, &[&str], &str)] = &[
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.1, 10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6", "198.51.100.1", "10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["198.51.100.1, nonsense, 10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ];
        for (peer, forwarded, expected) in cases {
            let found = client_address(address(peer), forwarded.iter().copied(), &trusted);
            assert_eq!(found, address(expected), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_site_is_an_ipv4_address_or_an_ipv6_half() {
        assert_eq!(client_site(address("198.51.100.1")), address("198.51.100.1"));
        assert_eq!(client_site(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
    }
}
