//! Active checks: one task an endpoint asks it at an interval.

use std::sync::{Arc, Weak};
use std::time::Duration;

use common::telemetry::with_causes;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::base::http_client;
use crate::config::checked::{Check, Health, Place, Protocol, Upstream};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Pool;
use crate::upstream::trust::Trust;

/// The largest answer to a gRPC check that is read, in bytes.
const GRPC_ANSWER_BYTES_MAX: usize = 1024;

/// What checks the endpoints of one upstream.
#[derive(Debug)]
pub(crate) struct Checker {
    health: Health,
    client: reqwest::Client,
}

/// The checks of one endpoint.
struct Checks {
    upstream: Arc<str>,
    health: Health,
    how: How,
}

/// How one endpoint is asked.
enum How {
    Http { client: reqwest::Client, url: String },
    Connect(Place),
    Grpc { client: reqwest::Client, url: String, question: Vec<u8> },
}

impl Checker {
    /// `client` is used where nothing particular to the upstream is needed.
    pub(crate) fn new(health: Health, client: reqwest::Client) -> Self {
        Self { health, client }
    }

    /// Starts to check an endpoint. It ends by itself when the endpoint is gone.
    pub(crate) fn start(&self, pool: &Pool, endpoint: &Arc<Endpoint>) {
        match self.how(pool.settings(), pool.trust(), &endpoint.place) {
            Ok(how) => {
                let checks = Checks { upstream: Arc::clone(&pool.name), health: self.health.clone(), how };
                tokio::spawn(checks.run(Arc::downgrade(endpoint)));
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(upstream = %pool.name, endpoint = %endpoint.label, error, "endpoint cannot be checked");
            }
        }
    }

    fn how(&self, upstream: &Upstream, trust: Option<&Trust>, place: &Place) -> Result<How, reqwest::Error> {
        let http2 = upstream.protocol == Protocol::Http2;
        Ok(match &self.health.check {
            Check::Tcp => How::Connect(place.clone()),
            Check::Http(path) => {
                let (client, origin) = self.client(http2, trust, place)?;
                How::Http { client, url: format!("{origin}{path}") }
            }
            Check::Grpc(service) => {
                let (client, origin) = self.client(true, trust, place)?;
                let url = format!("{origin}/grpc.health.v1.Health/Check");
                How::Grpc { client, url, question: grpc_question(service) }
            }
        })
    }

    /// A client that finds the endpoint, and believes whom requests believe; and what its URLs begin with.
    fn client(
        &self,
        http2: bool,
        trust: Option<&Trust>,
        place: &Place,
    ) -> Result<(reqwest::Client, String), reqwest::Error> {
        let mut builder = http_client::builder();
        if http2 && trust.is_none() {
            builder = builder.http2_prior_knowledge();
        }
        let (host, port) = match (place, trust) {
            (Place::Ip(address), None) => (address.ip().to_string(), address.port()),
            (Place::Ip(address), Some(trust)) => {
                builder = builder.resolve(&trust.name, *address);
                (trust.name.clone(), address.port())
            }
            (Place::Unix(path), trust) => {
                builder = builder.unix_socket(path.as_str());
                (trust.map_or("localhost", |trust| &trust.name).to_owned(), if trust.is_some() { 443 } else { 80 })
            }
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let Some(trust) = trust else {
            let plain = matches!(place, Place::Ip(_)) && !http2;
            let client = if plain { self.client.clone() } else { builder.build()? };
            return Ok((client, format!("http://{host}:{port}")));
        };
        if let Some(authorities) = &trust.authorities {
            let known = authorities.iter().map(|der| reqwest::Certificate::from_der(der));
            builder = builder.tls_certs_only(known.collect::<Result<Vec<_>, _>>()?);
        }
        if let Some(identity) = &trust.identity {
            builder = builder.identity(reqwest::Identity::from_pem(&identity.pem)?);
        }
        Ok((builder.build()?, format!("https://{host}:{port}")))
    }
}

impl Checks {
    async fn run(self, endpoint: Weak<Endpoint>) {
        // The first check is due at once; the others are spread, so that a fleet of gateways does not ask in step.
        let mut wait = Duration::ZERO;
        loop {
            tokio::time::sleep(wait).await;
            if endpoint.strong_count() == 0 {
                return;
            }
            let success = timeout(self.health.timeout, self.how.ask()).await.unwrap_or(false);
            let Some(endpoint) = endpoint.upgrade() else { return };
            if let Some(healthy) = endpoint.health.report(success) {
                tracing::warn!(upstream = %self.upstream, endpoint = %endpoint.label, healthy, "endpoint health changed");
                if healthy {
                    endpoint.returned();
                }
            }
            // An endpoint on its way back is asked again sooner, so that it is back within two intervals.
            let recovering = success && !endpoint.health.is_healthy();
            wait = spread(if recovering { self.health.every / 2 } else { self.health.every });
        }
    }
}

impl How {
    async fn ask(&self) -> bool {
        match self {
            Self::Http { client, url } => {
                client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
            }
            Self::Connect(Place::Ip(address)) => TcpStream::connect(address).await.is_ok(),
            Self::Connect(Place::Unix(path)) => UnixStream::connect(path).await.is_ok(),
            Self::Grpc { client, url, question } => {
                let asked = client
                    .post(url)
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(question.clone())
                    .send();
                let Ok(mut answer) = asked.await else { return false };
                let mut body = Vec::new();
                while let Ok(Some(chunk)) = answer.chunk().await {
                    if body.len() + chunk.len() > GRPC_ANSWER_BYTES_MAX {
                        return false;
                    }
                    body.extend_from_slice(&chunk);
                }
                is_serving(&body)
            }
        }
    }
}

/// A `HealthCheckRequest` in its frame: not compressed, its length, and field 1 with the service's name, unless it is empty
/// (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
fn grpc_question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // Names are short: `config` refuses one that would need a longer length.
    if let Ok(length @ 1..=127) = u8::try_from(service.len()) {
        message.extend_from_slice(&[0x0a, length]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// Whether a `HealthCheckResponse` in its frame says `SERVING`: field 1, a varint of 1.
fn is_serving(frame: &[u8]) -> bool {
    frame == [0, 0, 0, 0, 2, 0x08, 0x01]
}

/// The interval less up to a tenth.
fn spread(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - rand::random::<f64>() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_check_is_framed_as_the_protocol_says() {
        assert_eq!(grpc_question(""), [0, 0, 0, 0, 0]);
        assert_eq!(grpc_question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert!(is_serving(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(!is_serving(&[0, 0, 0, 0, 2, 8, 2]) && !is_serving(&[0, 0, 0, 0, 0]) && !is_serving(&[]));
    }
}
