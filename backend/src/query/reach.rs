//! Reach: whether the servers that answer questions can be reached.
//!
//! For: `/health/detailed` on the internal listener. May touch: the network.
//! Promises: a connection is opened and closed again, nothing is asked and nothing is sent, so that a look costs the
//! server no more than that. Read next: `base/health.rs`.

use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::Url;
use tokio::net::TcpStream;

use crate::base::health::Probe;
use crate::config::Config;

/// A server that may be reached or not.
struct Reach {
    name: String,
    /// A host that a URL has, with the brackets of an IPv6 address taken off.
    host: String,
    port: u16,
}

impl Probe for Reach {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        false
    }

    fn failure(&self) -> &'static str {
        "unreachable"
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
    }
}

/// A probe for each model server, and for the sandbox.
#[must_use]
pub fn probes(config: &Config) -> Vec<Arc<dyn Probe>> {
    let models = config.models.iter().map(|model| (format!("model:{}", model.id), &model.completions_url));
    let sandbox = config.sandbox.iter().map(|sandbox| ("sandbox".to_owned(), &sandbox.url));
    models.chain(sandbox).filter_map(|(name, url)| Some(Arc::new(reach(name, url)?) as Arc<dyn Probe>)).collect()
}

/// `None` for an address without a host, which the configuration does not let pass.
fn reach(name: String, url: &Url) -> Option<Reach> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Reach { name, host, port: url.port_or_known_default()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_by_its_host_and_port() {
        for (url, host, port) in [
            ("https://models.example/v1", "models.example", 443),
            ("http://127.0.0.1:9000/v1", "127.0.0.1", 9000),
            ("http://[::1]/v1", "::1", 80),
        ] {
            let reach = reach("m".into(), &Url::parse(url).expect("an address")).expect("a host");
            assert_eq!((reach.host.as_str(), reach.port), (host, port), "{url}");
        }
    }
}
