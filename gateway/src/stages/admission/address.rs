//! Address: who is at the other end, and who of those in between may be believed?

use std::net::IpAddr;

use common::forwarded;
use http::HeaderName;
use ipnet::IpNet;

use crate::base::head::Head;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whose forwarding headers are believed, and which addresses are one client.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub trusted: Box<[IpNet]>,
    pub ipv6_prefix: u8,
}

/// The client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub ip: IpAddr,
    /// What limits count by: the address, or the network of an IPv6 one.
    pub network: IpAddr,
    /// Whether the connection came from a trusted proxy, so that what it forwards is kept.
    pub through_trusted_proxy: bool,
}

/// The client: the right-most address that is not a trusted proxy's.
pub(crate) fn client(head: &Head<'_>, addresses: &Addresses) -> Client {
    let values = head.headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
    let ip = forwarded::client(head.peer, values, |ip| addresses.trust(ip));
    let through_trusted_proxy = addresses.trust(head.peer.to_canonical());
    Client { ip, network: addresses.network(ip), through_trusted_proxy }
}

impl Addresses {
    /// Whether this is a proxy's address whose word counts.
    pub(crate) fn trust(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&ip))
    }

    /// What counts as one client: the address, or the network of an IPv6 one.
    pub(crate) fn network(&self, ip: IpAddr) -> IpAddr {
        forwarded::network(ip, self.ipv6_prefix)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> (String, String) {
        let mut headers = HeaderMap::new();
        for field in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(field).expect("a value"));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        let addresses = Addresses { trusted: trusted.into(), ipv6_prefix: 64 };
        let head = Head { peer: peer.parse().expect("an address"), ..Head::plain(&headers) };
        let client = client(&head, &addresses);
        (client.ip.to_string(), client.network.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, forwarded, client) in [
            ("203.0.113.9", &["1.1.1.1"][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["6.6.6.6, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1:4711"], "1.1.1.1"),
            ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
        ] {
            assert_eq!(seen(peer, forwarded).0, client, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        assert_eq!(seen("2001:db8:1:2:3:4:5:6", &[]).1, "2001:db8:1:2::");
    }
}
