//! Access: from which addresses a route may be used, and from which none may.

use std::net::IpAddr;

use common::code::Code;
use ipnet::IpNet;

use super::address::Client;
use crate::base::refusal::Refusal;
use crate::stages::plan::Route;

/// Networks, to look an address up in. However many there are, a look takes as long as their logarithm.
#[derive(Debug)]
pub(crate) struct Networks {
    /// In order, and none inside another.
    apart: Box<[IpNet]>,
}

impl Networks {
    /// Takes them together.
    pub(crate) fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let networks: Vec<IpNet> = networks.into_iter().collect();
        let mut apart = IpNet::aggregate(&networks);
        apart.sort_unstable_by_key(IpNet::network);
        Self { apart: apart.into() }
    }

    /// Whether an address is in one of them.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        // Only the last one that begins at or before the address can hold it.
        let behind = self.apart.partition_point(|network| network.network() <= ip);
        let candidate = behind.checked_sub(1).and_then(|last| self.apart.get(last));
        candidate.is_some_and(|network| network.contains(&ip))
    }
}

/// Whether this client may send anything at all.
///
/// # Errors
/// 403.
pub(crate) fn check_denied(client: Client, denied: &Networks) -> Result<(), Refusal> {
    if denied.contains(client.ip) { Err(Refusal::new(Code::AddressForbidden)) } else { Ok(()) }
}

/// Whether this client may use the route.
///
/// # Errors
/// 403.
pub(crate) fn check(client: Client, route: &Route) -> Result<(), Refusal> {
    match &route.allow_from {
        Some(allowed) if !allowed.contains(client.ip) => Err(Refusal::new(Code::AddressForbidden)),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_found_in_its_network() {
        let written = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "192.0.2.8/29", "2001:db8::/32", "::1/128"];
        let networks = Networks::new(written.map(|network| network.parse().expect("a network")));
        for (ip, inside) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("192.0.2.15", true),
            ("192.0.2.16", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("::2", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(networks.contains(ip.parse().expect("an address")), inside, "{ip}");
        }
        assert!(!Networks::new([]).contains(IpAddr::from([127, 0, 0, 1])));
    }

    proptest! {
        #[test]
        fn it_agrees_with_looking_at_each(
            networks in prop::collection::vec((0_u32..64, 26_u8..=32), 0..12),
            ip in 0_u32..80,
        ) {
            let of = |number: u32| std::net::Ipv4Addr::from(0x0a00_0000 + number);
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(number, prefix)| IpNet::new(of(number).into(), prefix).expect("a prefix length"))
                .collect();
            let ip = IpAddr::from(of(ip));
            let naive = networks.iter().any(|network| network.contains(&ip));
            prop_assert_eq!(Networks::new(networks).contains(ip), naive);
        }
    }
}
