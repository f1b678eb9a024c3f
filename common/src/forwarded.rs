//! Forwarded: from which address a request came, where proxies stand in between.
//!
//! For: both programs; a gateway may itself stand behind proxies, and the backend behind the gateway. May touch: nothing.
//! Promises: `X-Forwarded-For` counts only when the peer is trusted, and then its right-most entry that is not itself so:
//! whatever a client writes further left gains nothing. Read next: each program's own middleware or admission.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Entries of `X-Forwarded-For` that are looked at, from the right.
const FORWARDERS_MAX: usize = 32;

/// Bits of an IPv6 address.
const IPV6_BITS: u32 = 128;

/// The client's address, from the connection's peer and the values of `X-Forwarded-For` in the order of the header. A value
/// that is no text is an empty one.
pub fn client<'h>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'h str>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let mut entries = values.rev().flat_map(|value| value.rsplit(',')).take(FORWARDERS_MAX);
    // Only a trusted proxy is asked whom it speaks for.
    while is_trusted(client) {
        // What is no address was not written by a proxy of ours: behind it, nothing can be believed.
        let Some(address) = entries.next().and_then(|entry| address(entry.trim())) else { break };
        client = address;
    }
    client
}

/// What counts as one client: an IPv4 address, or the network of an IPv6 one, whose prefix has so many bits.
#[must_use]
pub fn network(address: IpAddr, ipv6_prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let host_bits = IPV6_BITS.saturating_sub(ipv6_prefix_bits.into());
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// An address as proxies write it: bare, with a port, or in brackets. IPv4 addresses come in their own form.
fn address(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    let address = entry.parse::<IpAddr>().ok().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_right_most_entry_that_is_not_trusted_is_the_client() {
        let trusted = |address: IpAddr| address.is_loopback() || address.to_string().starts_with("10.");
        let cases: &[(&str, &[&str], &str)] = &[
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.1, 10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6", "198.51.100.1", "10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("127.0.0.1", &["198.51.100.1, nonsense, 10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", &["198.51.100.1", "", "10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", &["nonsense"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", &["[198.51.100.1]"], "127.0.0.1"),
            ("127.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        ];
        for (peer, values, expected) in cases {
            assert_eq!(client(at(peer), values.iter().copied(), trusted), at(expected), "{peer} {values:?}");
        }
        let long = ["10.0.0.1"; FORWARDERS_MAX].join(",");
        assert_eq!(client(at("10.0.0.9"), [&*format!("6.6.6.6,{long}")].into_iter(), trusted), at("10.0.0.1"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        assert_eq!(network(at("198.51.100.1"), 64), at("198.51.100.1"));
        for (bits, expected) in [(64, "2001:db8:1:2::"), (0, "::"), (128, "2001:db8:1:2:3:4:5:6")] {
            assert_eq!(network(at("2001:db8:1:2:3:4:5:6"), bits), at(expected), "{bits}");
        }
    }
}
