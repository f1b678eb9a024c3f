//! DNS: addresses of a name, or the services that SRV records name (RFC 2782).

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};

use super::Look;
use crate::config::check_upstreams::TARGETS_MAX;
use crate::config::checked::{DnsName, Place, Target};
use crate::config::targets::WEIGHT_MAX;

/// How long to wait for one answer, and how often to ask for it.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// A name that is looked up again and again.
pub(super) struct Dns {
    name: DnsName,
    resolver: TokioResolver,
}

impl Dns {
    /// Asks these servers, or those of the system.
    pub(super) fn new(name: DnsName, servers: &[SocketAddr]) -> Result<Self, String> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| error.to_string())?
        } else {
            let servers = servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // The interval says how old an answer may be.
        options.cache_size = 0;
        Ok(Self { name, resolver: builder.build().map_err(|error| error.to_string())? })
    }

    async fn hosts(&self, name: &str, port: u16, weight: u16) -> Result<Vec<Target>, String> {
        let found = match self.resolver.lookup_ip(name).await {
            // A host that has no address, or none yet, is no server; it must not hide the others of a service.
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            found => found.map_err(|error| error.to_string())?,
        };
        let place = |ip| Target { at: Place::Ip(SocketAddr::new(ip, port)), weight };
        Ok(found.iter().map(place).collect())
    }

    /// Services of the best priority; where each is, is looked up as well.
    async fn services(&self, name: &str) -> Result<Vec<Target>, String> {
        let name: Name = name.parse().map_err(|_| format!("{name:?} is not a name"))?;
        let found = self.resolver.srv_lookup(name).await.map_err(|error| error.to_string())?;
        let services: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) => {
                    Some((service.priority, service.weight, service.port, service.target.to_utf8()))
                }
                _ => None,
            })
            .collect();
        let best = services.iter().map(|(priority, ..)| *priority).min();
        let heaviest = services.iter().map(|(_, weight, ..)| *weight).max().unwrap_or(1);
        let mut targets = Vec::new();
        let services = services.into_iter().filter(|(priority, ..)| Some(*priority) == best);
        // Each of them is a question more.
        for (_, weight, port, host) in services.take(TARGETS_MAX) {
            targets.extend(self.hosts(&host, port, scaled(weight, heaviest)).await?);
        }
        Ok(targets)
    }
}

/// A weight up to 65,535 as one up to a hundred. Zero is a small share, not none (RFC 2782).
fn scaled(weight: u16, heaviest: u16) -> u16 {
    if heaviest <= WEIGHT_MAX {
        return weight.max(1);
    }
    let scaled = u32::from(weight) * u32::from(WEIGHT_MAX) / u32::from(heaviest);
    u16::try_from(scaled).unwrap_or(WEIGHT_MAX).max(1)
}

#[async_trait::async_trait]
impl Look for Dns {
    async fn look(&mut self) -> Result<Vec<Target>, String> {
        let mut targets = match &self.name {
            DnsName::Host { name, port } => self.hosts(name, *port, 1).await?,
            DnsName::Service(name) => self.services(name).await?,
        };
        // In an order of their own, so that answers which are only shuffled change nothing.
        targets.sort_by_cached_key(|target| target.at.to_string());
        targets.dedup_by(|a, b| a.at == b.at);
        targets.truncate(TARGETS_MAX);
        Ok(targets)
    }
}
