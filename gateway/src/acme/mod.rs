//! ACME: certificates that the gateway orders and renews by itself (RFC 8555).
//!
//! For: `tls.acme` of listeners. May touch: the authority, the vaults. Promises: one task a certificate; one gateway orders at a
//! time, the others take the result; while something fails, the old certificate goes on and the wait until the next attempt
//! grows; a certificate is shown from the next handshake on. Proofs are shown by `proxy/challenge.rs`.
//! Read next: `keeper.rs` for the life of one, `order.rs` for the talk with the authority, `schedule.rs` for when.

mod client;
mod keeper;
mod order;
mod schedule;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::Acme;
use crate::listen::issued::Issued;
use crate::snapshot::Snapshot;
use crate::store::Vault;

/// The certificates that are ordered, as the configuration of the moment names them.
pub(crate) struct Orders {
    issued: Arc<Issued>,
    metrics: Arc<Metrics>,
    running: Vec<Running>,
}

/// One that is kept.
struct Running {
    settings: Acme,
    vault: Arc<Vault>,
    task: AbortHandle,
}

impl Orders {
    /// None yet. What comes goes into `issued`.
    pub(crate) fn new(issued: Arc<Issued>, metrics: Arc<Metrics>) -> Self {
        Self { issued, metrics, running: Vec::new() }
    }

    /// Keeps what this configuration orders, and nothing else. What goes on unchanged is not touched.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot) {
        let wanted: Vec<(&Acme, &Arc<Vault>)> = snapshot
            .config
            .orders()
            .into_iter()
            .filter_map(|settings| Some((settings, snapshot.vault(settings)?)))
            .collect();
        let is_wanted = |running: &Running| wanted.iter().any(|(settings, vault)| running.is(settings, vault));
        let count = self.running.len();
        let metrics = &self.metrics;
        self.running.retain(|running| {
            let stays = is_wanted(running);
            if !stays {
                running.task.abort();
                metrics.forget_certificate(&keeper::label(&running.settings));
            }
            stays
        });
        if self.running.len() < count {
            let names: HashSet<Arc<str>> = wanted.iter().flat_map(|(settings, _)| settings.names.clone()).collect();
            self.issued.keep_only(&names);
        }
        for (settings, vault) in wanted {
            if !self.running.iter().any(|running| running.is(settings, vault)) {
                self.start(settings.clone(), Arc::clone(vault));
            }
        }
    }

    fn start(&mut self, settings: Acme, vault: Arc<Vault>) {
        let keeper = keeper::Keeper::new(
            settings.clone(),
            Arc::clone(&vault),
            Arc::clone(&self.issued),
            Arc::clone(&self.metrics),
        );
        let task = tokio::spawn(keeper.keep()).abort_handle();
        self.running.push(Running { settings, vault, task });
    }
}

impl Running {
    fn is(&self, settings: &Acme, vault: &Arc<Vault>) -> bool {
        self.settings == *settings && Arc::ptr_eq(&self.vault, vault)
    }
}
