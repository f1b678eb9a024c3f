//! Audit: security events, kept for a while.
//!
//! For: who logged in, who failed, whose keys came and went. May touch: the table `audit_events`.
//! Promises: no password, token or key secret is ever part of an event; events older than `RETENTION_DAYS` are deleted
//! at start, a bounded number at a time. Read next: `auth/audit.rs`.

use sqlx::Row as _;

use super::cleaning::Batch;
use super::engine::{on, rows};
use super::{StorageError, Store};
use crate::base::ids;
use crate::base::time::DAY_SECONDS;

/// How long events are kept, in days.
pub(super) const RETENTION_DAYS: i64 = 90;

/// Deletes old events.
const CLEAN: Batch = Batch {
    what: "audit_events_clean",
    rows_max: 1_000,
    statement: "\
        DELETE FROM audit_events \
        WHERE id IN (SELECT id FROM audit_events WHERE at < $1 ORDER BY at LIMIT $2)",
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// A login gave tokens.
    LoginOk,
    /// A login with a wrong name or password.
    LoginFailed,
    /// A login refused before the password was looked at.
    LoginThrottled,
    /// A spent refresh token was sent again, and its family revoked.
    RefreshReused,
    /// A family of refresh tokens was revoked by its holder.
    Logout,
    /// An API key was made.
    ApiKeyCreated,
    /// An API key got a new secret.
    ApiKeyRotated,
    /// An API key was revoked.
    ApiKeyRevoked,
    /// A user was made.
    UserCreated,
    /// A user's role or password was changed, or whether they may come in.
    UserChanged,
    /// A key that signs access tokens was made, or hurried.
    SigningKeyRotated,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct AuditEvent<'a> {
    /// In seconds.
    pub at: i64,
    /// What happened.
    pub kind: AuditKind,
    /// A user's id, or the name that was tried.
    pub subject: Option<&'a str>,
    /// The client's address.
    pub client: Option<&'a str>,
    /// The request it happened in.
    pub request_id: Option<&'a str>,
    /// What it was about, such as a key's public id.
    pub detail: Option<&'a str>,
}

/// One event, as it is read.
#[derive(Debug)]
pub struct AuditRow {
    /// The stable id.
    pub id: String,
    /// In seconds.
    pub at: i64,
    /// The word of its kind.
    pub kind: String,
    /// A user's id, or the name that was tried.
    pub subject: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    /// The request it happened in.
    pub request_id: Option<String>,
    /// What it was about.
    pub detail: Option<String>,
}

rows!(AuditRow, |row| {
    Ok(Self {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        client: row.try_get("client")?,
        request_id: row.try_get("request_id")?,
        detail: row.try_get("detail")?,
    })
});

/// Which events are listed.
#[derive(Clone, Copy, Debug)]
pub struct AuditPage<'a> {
    /// Only those before this one: its second and its id.
    pub before: Option<(i64, &'a str)>,
    /// Only those of this kind.
    pub kind: Option<AuditKind>,
    /// Only those about this subject.
    pub subject: Option<&'a str>,
    /// How many at most.
    pub limit: u32,
}

/// The list with a filter. Every filter names both parameters, so that one binding fits all, and names a column only
/// where it filters, so that an index serves it.
macro_rules! list {
    ($filter:literal) => {
        concat!(
            "SELECT id, at, kind, subject, client, request_id, detail FROM audit_events ",
            "WHERE (at, id) < ($1, $2) AND ",
            $filter,
            " ORDER BY at DESC, id DESC LIMIT $5"
        )
    };
}

/// Lists, by what they are filtered by: by nothing, by kind, by subject, by both.
pub(super) const LIST: &str = list!("$3 = '' AND $4 = ''");
pub(super) const LIST_OF_KIND: &str = list!("kind = $3 AND $4 = ''");
pub(super) const LIST_OF_SUBJECT: &str = list!("$3 = '' AND subject = $4");
pub(super) const LIST_OF_BOTH: &str = list!("kind = $3 AND subject = $4");

impl AuditKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::LoginOk,
        Self::LoginFailed,
        Self::LoginThrottled,
        Self::RefreshReused,
        Self::Logout,
        Self::ApiKeyCreated,
        Self::ApiKeyRotated,
        Self::ApiKeyRevoked,
        Self::UserCreated,
        Self::UserChanged,
        Self::SigningKeyRotated,
    ];

    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginOk => "login_ok",
            Self::LoginFailed => "login_failed",
            Self::LoginThrottled => "login_throttled",
            Self::RefreshReused => "refresh_reused",
            Self::Logout => "logout",
            Self::ApiKeyCreated => "api_key_created",
            Self::ApiKeyRotated => "api_key_rotated",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::UserCreated => "user_created",
            Self::UserChanged => "user_changed",
            Self::SigningKeyRotated => "signing_key_rotated",
        }
    }
}

impl Store {
    /// Keeps an event.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_event_create(&self, event: AuditEvent<'_>) -> Result<(), StorageError> {
        on!(self.write(), |db| {
            sqlx::query(
                "INSERT INTO audit_events (id, at, kind, subject, client, request_id, detail) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(ids::new_id())
            .bind(event.at)
            .bind(event.kind.as_str())
            .bind(event.subject)
            .bind(event.client)
            .bind(event.request_id)
            .bind(event.detail)
            .execute(db)
            .await
            .map(|_| ())
        })
        .map_err(StorageError::during("audit_event_create"))
    }

    /// Events, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_event_list(&self, page: AuditPage<'_>) -> Result<Vec<AuditRow>, StorageError> {
        let statement = match (page.kind, page.subject) {
            (None, None) => LIST,
            (Some(_), None) => LIST_OF_KIND,
            (None, Some(_)) => LIST_OF_SUBJECT,
            (Some(_), Some(_)) => LIST_OF_BOTH,
        };
        // No event is of this second, so the first page has all.
        let (at, id) = page.before.unwrap_or((i64::MAX, ""));
        on!(self.read(), |db| {
            sqlx::query_as(statement)
                .bind(at)
                .bind(id)
                .bind(page.kind.map_or("", AuditKind::as_str))
                .bind(page.subject.unwrap_or(""))
                .bind(i64::from(page.limit))
                .fetch_all(db)
                .await
        })
        .map_err(StorageError::during("audit_event_list"))
    }

    /// Deletes events older than `RETENTION_DAYS`, a bounded number at a time, unless another process is cleaning.
    /// Says whether there may be more for this one to do.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_events_clean(&self, now: i64) -> Result<bool, StorageError> {
        self.clean(CLEAN, now.saturating_sub(RETENTION_DAYS * DAY_SECONDS)).await
    }
}
