//! Rate by address: before anything costly is done for a stranger.

use std::net::IpAddr;

use super::address::Client;
use crate::base::refusal::Refusal;
use crate::stages::context::Now;
use crate::stages::plan::{Route, Spent};

/// Spends one unit of each limit by address that the route names.
///
/// # Errors
/// 429 with the limit's name.
pub(crate) fn spend(client: Client, route: &Route, now: Now, spent: &mut Vec<Spent>) -> Result<(), Refusal> {
    for limit in &route.limits_by_address {
        match client.network {
            IpAddr::V4(ip) => limit.spend(&ip.octets(), now, spent)?,
            IpAddr::V6(ip) => limit.spend(&ip.octets(), now, spent)?,
        }
    }
    Ok(())
}
