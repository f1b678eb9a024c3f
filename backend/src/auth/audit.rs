//! Audit: writes security events down.
//!
//! For: sessions, users and keys, which say what happened. May touch: `storage`, the log.
//! Promises: an event that cannot be kept goes to the log as an error and does not undo what happened; the names that
//! clients try are cut to a bounded length. Read next: `storage/audit.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use common::clock::Clock;
use common::telemetry::with_causes;

use crate::base::time::now_seconds;
use crate::storage::{AuditEvent, AuditKind, Store};

/// Characters kept of a name that somebody tried.
const SUBJECT_CHARS_MAX: usize = 64;

/// From where, and in which request, something happened.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The client's address, as trusted proxies tell it.
    pub address: IpAddr,
    /// The request's id.
    pub request_id: &'a str,
}

/// Writes events.
#[derive(Clone)]
pub struct Audit {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// Writes into this store.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Writes one event down. `client` is `None` on the command line.
    pub async fn note(&self, kind: AuditKind, subject: &str, client: Option<&Client<'_>>, detail: Option<&str>) {
        let subject: String = subject.chars().take(SUBJECT_CHARS_MAX).collect();
        let address = client.map(|client| client.address.to_string());
        let event = AuditEvent {
            at: now_seconds(&*self.clock),
            kind,
            subject: Some(&subject),
            client: address.as_deref(),
            request_id: client.map(|client| client.request_id),
            detail,
        };
        if let Err(error) = self.store.audit_event_create(event).await {
            let error = with_causes(&error);
            tracing::error!(kind = kind.as_str(), subject, error, "a security event could not be kept");
        }
    }
}
