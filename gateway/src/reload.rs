//! Reload: a new configuration in place of the old one, whole or not at all.
//!
//! For: file → check → build → swap. May touch: the configuration file and what it names. Promises: nothing changes before
//! everything could be built and bound; when something is wrong, the last good configuration goes on and the reason is
//! told; requests under way keep the snapshot they began with.
//! Read next: `snapshot.rs` for what is carried over, `listen/listeners.rs` for sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use common::settings::Report;
use common::telemetry::with_causes;

use crate::base::service_manager::ServiceManager;
use crate::base::telemetry::metrics::Metrics;
use crate::config::{self, Config};
use crate::listen::handover::Inherited;
use crate::listen::listeners::{ListenError, Listeners, Prepared, Serves};
use crate::snapshot::Snapshot;

/// What a reload needs and changes.
pub(crate) struct Reloader<A> {
    path: PathBuf,
    metrics: Arc<Metrics>,
    client: reqwest::Client,
    snapshot: Arc<ArcSwap<Snapshot>>,
    listeners: Listeners<A>,
    manager: Arc<ServiceManager>,
    /// What the files looked like when they were last read, or tried to be.
    seen: Fingerprint,
}

/// What the files looked like: when each was last changed, and its length. A file that is not there has neither.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint(Vec<Option<(SystemTime, u64)>>);

/// Why the last configuration goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// Every mistake, with its place.
    #[error("{0}")]
    Configuration(Report),
    #[error("{}", with_causes(.0))]
    Listen(ListenError),
}

impl<A: Serves> Reloader<A> {
    pub(crate) fn new(
        path: PathBuf,
        metrics: Arc<Metrics>,
        client: reqwest::Client,
        snapshot: Arc<ArcSwap<Snapshot>>,
        listeners: Listeners<A>,
        manager: Arc<ServiceManager>,
    ) -> Self {
        let seen = Fingerprint::of(&path, &snapshot.load().config);
        Self { path, metrics, client, snapshot, listeners, manager, seen }
    }

    /// The open listeners.
    pub(crate) fn listeners(&self) -> &Listeners<A> {
        &self.listeners
    }

    /// Prepares the listeners of the first configuration, and starts its background work.
    ///
    /// # Errors
    /// When a certificate cannot be used or an address cannot be bound.
    pub(crate) fn begin(&self, inherited: &mut Inherited) -> Result<Prepared, ReloadError> {
        let snapshot = self.snapshot.load_full();
        let prepared = self.listeners.prepare(&snapshot.config, inherited).map_err(|error| self.told(error))?;
        snapshot.start(None);
        Ok(prepared)
    }

    /// Opens what `begin` has prepared.
    ///
    /// # Errors
    /// When the system cannot tell a socket's address, or the crypto provider lacks something.
    pub(crate) fn open(&mut self, prepared: Prepared) -> Result<(), ReloadError> {
        self.listeners.apply(prepared).map_err(ReloadError::Listen)?;
        self.metrics.reloaded(true);
        Ok(())
    }

    /// Takes the file in again if it, or one that it names, has changed since. A change that was refused is not tried twice.
    pub(crate) fn reload_if_changed(&mut self) {
        if self.look() != self.seen {
            // Logged and counted where it happened; the last good configuration goes on.
            drop(self.reload());
        }
    }

    /// Takes the file in again.
    ///
    /// # Errors
    /// What is wrong; nothing has changed then. It is logged and counted already.
    pub(crate) fn reload(&mut self) -> Result<(), ReloadError> {
        self.manager.reloading();
        // Before reading: a change that comes meanwhile is then seen the next time.
        self.seen = self.look();
        let outcome = self.try_reload();
        if outcome.is_ok() {
            // The files may be others now.
            self.seen = self.look();
        }
        self.metrics.reloaded(outcome.is_ok());
        self.manager.ready();
        match &outcome {
            Ok(()) => tracing::info!(file = %self.path.display(), "configuration reloaded"),
            Err(error) => tracing::error!(%error, "configuration not reloaded, the last one goes on"),
        }
        outcome
    }

    fn look(&self) -> Fingerprint {
        Fingerprint::of(&self.path, &self.snapshot.load().config)
    }

    fn try_reload(&mut self) -> Result<(), ReloadError> {
        let config = config::load(&self.path).map_err(ReloadError::Configuration)?;
        let previous = self.snapshot.load_full();
        let built = Snapshot::build(config, &self.metrics, &self.client, &previous.plan.revocations, Some(&previous));
        let next = Arc::new(built.map_err(|mistakes| self.mistaken(mistakes))?);
        let nothing = &mut Inherited::default();
        let prepared = self.listeners.prepare(&next.config, nothing).map_err(|error| self.told(error))?;
        next.start(Some(&previous));
        self.snapshot.store(Arc::clone(&next));
        self.listeners.apply(prepared).map_err(ReloadError::Listen)?;
        previous.retire(&next);
        for key in needs_restart(&previous.config, &next.config) {
            tracing::warn!(key, "changed, but takes effect only at the next start");
        }
        Ok(())
    }

    fn told(&self, error: ListenError) -> ReloadError {
        match error {
            ListenError::Certificates(mistakes) => self.mistaken(mistakes),
            error => ReloadError::Listen(error),
        }
    }

    fn mistaken(&self, mistakes: Vec<common::settings::Mistake>) -> ReloadError {
        ReloadError::Configuration(Report::new(&self.path.display().to_string(), mistakes))
    }
}

impl Fingerprint {
    /// Links are followed, as Kubernetes swaps them to change all files of a volume at once.
    fn of(path: &Path, config: &Config) -> Self {
        let look = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self(std::iter::once(path).chain(config.files()).map(look).collect())
    }
}

/// The keys that changed and are read only at start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.server, &new.server);
    let changed = [
        ("log", old.log != new.log),
        ("traces", old.traces != new.traces),
        ("admin", old.admin != new.admin),
        ("server.workers", a.workers != b.workers),
        ("server.upgrade_socket", a.upgrade_socket != b.upgrade_socket),
        ("server.max_connections", a.max_connections != b.max_connections),
        ("server.max_connections_per_address", a.max_connections_per_address != b.max_connections_per_address),
        ("server.handshake_timeout", a.handshake_timeout != b.handshake_timeout),
        ("server.header_timeout", a.header_timeout != b.header_timeout),
        ("server.keepalive_requests", a.keepalive_requests != b.keepalive_requests),
        ("server.http2_streams", a.http2_streams != b.http2_streams),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
