//! Audit: writes security events down, and tells them to administrators.
//!
//! For: sessions, users and keys, which say what happened. May touch: `storage`, the log.
//! Promises: an event that cannot be kept goes to the log as an error and does not undo what happened; the names that
//! clients try are cut to a bounded length, and hold nothing that does not print. Read next: `storage/audit.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use common::clock::Clock;
use common::telemetry::with_causes;

use super::AuthError;
use crate::base::time::now_seconds;
use crate::storage::{AuditEvent, AuditKind, AuditPage, AuditRow, Store};

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

/// One event, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEvent {
    /// The stable id.
    pub id: String,
    /// In seconds of the Unix epoch.
    pub at: i64,
    /// What happened, in a word.
    pub kind: String,
    /// A user's id, or the name that was tried.
    pub subject: Option<String>,
    /// The client's address; none on the command line.
    pub client: Option<String>,
    /// The request it happened in.
    pub request_id: Option<String>,
    /// What it was about, such as a key's public id.
    pub detail: Option<String>,
}

/// Which events an administrator asks for.
#[derive(Clone, Copy, Debug)]
pub struct EventsWanted<'a> {
    /// Only those before this one: its second and its id.
    pub before: Option<(i64, &'a str)>,
    /// Only those of this kind, in a word.
    pub kind: Option<&'a str>,
    /// Only those about this user's id, or this name that was tried.
    pub subject: Option<&'a str>,
    /// How many at most.
    pub limit: u32,
}

impl From<AuditRow> for ListedEvent {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            kind: row.kind,
            subject: row.subject,
            client: row.client,
            request_id: row.request_id,
            detail: row.detail,
        }
    }
}

/// Writes events, and lists them.
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
        let subject = printable(subject);
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

    /// Events, the newest first.
    ///
    /// # Errors
    /// `Input` for a kind that there is not or a subject that cannot be, or that the database failed.
    pub async fn list(&self, wanted: &EventsWanted<'_>) -> Result<Vec<ListedEvent>, AuthError> {
        if wanted.subject.is_some_and(|subject| subject.contains('\0')) {
            return Err(AuthError::Input { field: "subject", why: "must not hold a NUL".into() });
        }
        let kind = wanted.kind.map(kind_of).transpose()?;
        let page = AuditPage { before: wanted.before, kind, subject: wanted.subject, limit: wanted.limit };
        Ok(self.store.audit_event_list(page).await?.into_iter().map(ListedEvent::from).collect())
    }
}

/// The words of every kind of event.
#[must_use]
pub fn event_kinds() -> [&'static str; 11] {
    AuditKind::ALL.map(AuditKind::as_str)
}

/// The beginning of a text, with a sign in place of each character that does not print: no line of the log ends in the
/// middle, and Postgres, which keeps no NUL, keeps the rest.
fn printable(text: &str) -> String {
    let shown = |sign: char| if sign.is_control() { char::REPLACEMENT_CHARACTER } else { sign };
    text.chars().take(SUBJECT_CHARS_MAX).map(shown).collect()
}

fn kind_of(word: &str) -> Result<AuditKind, AuthError> {
    let found = AuditKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    let why = || format!("must be one of {}", event_kinds().join(", "));
    found.ok_or_else(|| AuthError::Input { field: "kind", why: why() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_tried_is_cut_and_prints() {
        assert_eq!(printable("a\0b\nc ä"), "a\u{fffd}b\u{fffd}c ä");
        assert_eq!(printable(&"ä".repeat(200)).chars().count(), SUBJECT_CHARS_MAX);
    }
}
