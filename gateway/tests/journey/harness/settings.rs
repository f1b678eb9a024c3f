//! Settings: the parts of a gateway's file that many tests share.
//!
//! For: writing only what a test is about. May touch: nothing. Promises: what a helper writes is plain YAML, as an
//! operator would write it. Read next: `gateway.rs`.

use std::fmt;
use std::net::SocketAddr;

/// What every file begins with. `127.0.0.9` plays the trusted proxy.
pub const HEAD: &str = "\
version: 1
environment: development
log: { filter: \"info\", format: json }
server: { drain: 10s }
admin: { bind: \"127.0.0.1:0\" }
client_ip: { trusted_proxies: [127.0.0.9/32] }
";

/// One plain listener.
pub const HTTP: &str = "\
listeners:
  http: { bind: \"127.0.0.1:0\" }
";

/// One route, open to everybody.
pub const OPEN: &str = "\
routes:
  - { id: open, path: /*, auth: none, to: api }
";

/// A plain listener, and one with TLS that has these certificates.
pub fn listeners(certificates: &[String], min_version: &str) -> String {
    let certificates = certificates.join(", ");
    format!(
        "listeners:\n  http: {{ bind: \"127.0.0.1:0\" }}\n  https: {{ bind: \"127.0.0.1:0\", tls: {{ certificates: \
         [{certificates}], min_version: \"{min_version}\" }} }}\n"
    )
}

/// The one upstream `api`.
pub fn upstream(pool: &Pool) -> String {
    format!("upstreams:\n  api: {pool}\n")
}

/// Time between two health probes of `Pool::probed`, in milliseconds.
pub const PROBE_EVERY_MS: u64 = 500;

/// The settings of one upstream, written as a YAML flow mapping.
pub struct Pool {
    targets: Vec<SocketAddr>,
    balance: &'static str,
    probed: bool,
    first_byte: &'static str,
}

impl Pool {
    /// Round robin over these targets, without probes.
    pub fn of(targets: &[SocketAddr]) -> Self {
        Self { targets: targets.to_vec(), balance: "round_robin", probed: false, first_byte: "5s" }
    }

    /// Another way to choose.
    pub fn balance(mut self, balance: &'static str) -> Self {
        self.balance = balance;
        self
    }

    /// With health probes.
    pub fn probed(mut self) -> Self {
        self.probed = true;
        self
    }

    /// Another wait for the first byte of an answer.
    pub fn first_byte(mut self, first_byte: &'static str) -> Self {
        self.first_byte = first_byte;
        self
    }
}

/// Where an upstream's servers are, as a member of its settings.
pub fn targets(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("targets: [{}]", addresses.join(", "))
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ {}, balance: {}", targets(&self.targets), self.balance)?;
        if self.probed {
            let every = PROBE_EVERY_MS;
            write!(f, ", health: {{ http: /health, every: {every}ms, timeout: 400ms, up_after: 2, down_after: 2 }}")?;
        }
        write!(f, ", timeouts: {{ connect: 1s, first_byte: {}, idle: 60s }}", self.first_byte)?;
        write!(f, ", retry: {{ attempts: 2, budget: \"20%\" }} }}")
    }
}
