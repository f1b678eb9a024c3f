//! Kubernetes: the endpoints of a service, listed once and then watched (`EndpointSlices` of `discovery.k8s.io/v1`).
//!
//! For: pods that come and go. May touch: the network, for the API server; the files of its authorities, of the token and of
//! the namespace. Promises: the token is read anew before each request, since it is rotated in place; the authorities each time it
//! begins anew; slices, endpoints, pages and lines have a bound; a history that is gone is answered by a new list.
//! Zone hints are not looked at: a gateway balances over all endpoints. Read next: `slices.rs`, then `api.rs`.

mod api;
mod slices;

use std::time::Duration;

use common::body::BodyError;
use common::secret::SecretError;
use common::settings::{At, Mistake};
use common::telemetry::with_causes;
use tokio::time::Instant;

use super::Look;
use crate::config::check_upstreams::TARGETS_MAX;
use crate::config::checked::{Kubernetes as Settings, Target};
use api::{Api, Watch};
use slices::{Change, ENDPOINTS_MAX, SLICES_MAX, Slices};

/// The shortest time between two watches and between two lists, so that a server that ends each at once is not asked in a circle.
const ASK_EVERY_MIN: Duration = Duration::from_secs(1);

/// Why nothing could be learned.
#[derive(Debug, thiserror::Error)]
enum KubernetesError {
    #[error("{path}")]
    File { path: String, source: std::io::Error },
    #[error("{0} holds no certificate")]
    NoAuthority(String),
    #[error("HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("token for the API server: {0}")]
    Token(SecretError),
    #[error("the API server could not be asked")]
    Ask(#[source] reqwest::Error),
    #[error("the API server answered {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the API server has no history that goes back so far")]
    Gone,
    #[error("the API server answered in a form that is not expected")]
    Form(#[source] serde_json::Error),
    #[error("the API server's URL cannot have a path")]
    Url,
    #[error("the answer of the API server could not be read")]
    Read(#[from] BodyError),
    #[error("a line of the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the service has more than {SLICES_MAX} slices or {ENDPOINTS_MAX} endpoints")]
    TooMany,
    #[error("a thread that reads files ended early")]
    Thread(#[from] tokio::task::JoinError),
}

/// A service whose endpoints are followed.
pub(super) struct Kubernetes {
    settings: Settings,
    /// What is known since the last list; `None` before it, and after anything went wrong.
    followed: Option<Followed>,
    listed_at: Option<Instant>,
}

/// What is known, and how there is news.
struct Followed {
    api: Api,
    slices: Slices,
    /// `None` after it has ended.
    watch: Option<Watch>,
    watched_at: Instant,
}

impl Kubernetes {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, followed: None, listed_at: None }
    }

    /// Lists, or waits for a change.
    async fn news(&mut self) -> Result<Vec<Target>, KubernetesError> {
        let Some(mut followed) = self.followed.take() else {
            let followed = self.begin().await?;
            let targets = self.targets(&followed.slices);
            self.followed = Some(followed);
            return Ok(targets);
        };
        match followed.changed().await {
            Ok(()) => {}
            Err(KubernetesError::Gone) => {
                tracing::debug!(service = self.settings.service.value, "the history is gone, listing again");
                followed = self.begin().await?;
            }
            Err(error) => return Err(error),
        }
        let targets = self.targets(&followed.slices);
        self.followed = Some(followed);
        Ok(targets)
    }

    /// Lists, with files that are read anew, and begins to watch. Both have to go well: who is told of no change would keep what
    /// it has for ever.
    async fn begin(&mut self) -> Result<Followed, KubernetesError> {
        if let Some(before) = self.listed_at {
            tokio::time::sleep_until(before + ASK_EVERY_MIN).await;
        }
        self.listed_at = Some(Instant::now());
        let settings = self.settings.clone();
        let api = tokio::task::spawn_blocking(move || Api::open(&settings)).await??;
        let slices = api.list().await?;
        let watched_at = Instant::now();
        let watch = api.watch(&slices.version).await?;
        Ok(Followed { api, slices, watch: Some(watch), watched_at })
    }

    fn targets(&self, slices: &Slices) -> Vec<Target> {
        let mut targets = slices.targets(self.settings.port.as_ref());
        let service = &self.settings.service.value;
        if targets.is_empty() {
            tracing::warn!(
                service,
                slices = slices.count(),
                "the service has no endpoint that is ready on this port"
            );
        }
        if targets.len() > TARGETS_MAX {
            tracing::warn!(
                service,
                endpoints = targets.len(),
                "more endpoints than {TARGETS_MAX}, the rest gets nothing"
            );
            targets.truncate(TARGETS_MAX);
        }
        targets
    }
}

impl Followed {
    /// Returns after the next change of an endpoint. A watch that has ended, or broke, goes on in the next.
    async fn changed(&mut self) -> Result<(), KubernetesError> {
        loop {
            let watch = match &mut self.watch {
                Some(watch) => watch,
                none => {
                    tokio::time::sleep_until(self.watched_at + ASK_EVERY_MIN).await;
                    self.watched_at = Instant::now();
                    none.insert(self.api.watch(&self.slices.version).await?)
                }
            };
            match watch.next().await {
                Ok(Some(event)) => {
                    if self.slices.apply(event)? == Change::Endpoints {
                        return Ok(());
                    }
                }
                Ok(None) => self.watch = None,
                Err(KubernetesError::Ask(error)) => {
                    tracing::debug!(error = with_causes(&error), "a watch of endpoints broke");
                    self.watch = None;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait::async_trait]
impl Look for Kubernetes {
    async fn look(&mut self) -> Result<Vec<Target>, String> {
        self.news().await.map_err(|error| with_causes(&error))
    }

    fn is_told(&self) -> bool {
        true
    }
}

/// Whether the files are there that asking needs.
///
/// # Errors
/// The first one that cannot be used, at its key.
pub(super) fn check(settings: &Settings) -> Result<(), Mistake> {
    api::namespace(settings).map_err(|error| {
        let advice = format!("without a namespace, that of the pod is taken; {}", with_causes(&error));
        mistake(&settings.service, advice)
    })?;
    Api::open(settings).map_err(|error| mistake(&settings.ca, with_causes(&error)))?;
    let token = settings.token.value.resolve();
    token.map(|_| ()).map_err(|error| mistake(&settings.token, error.to_string()))
}

fn mistake<T>(at: &At<T>, message: String) -> Mistake {
    Mistake { position: at.position, path: at.path.clone(), message }
}
