//! Keeper: the life of one certificate: found, ordered, shown, renewed.
//!
//! For: one task a certificate. May touch: the vault, what handshakes find, metrics. Promises: what another gateway has put
//! into the vault is taken in within half a minute, and before anything is ordered; a certificate is replaced only by one
//! that ends later. Read next: `order.rs`, `schedule.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::telemetry::with_causes;

use super::order::{self, OrderError};
use super::schedule;
use crate::base::now::unix_now;
use crate::base::telemetry::metrics::Metrics;
use crate::config::checked::Acme;
use crate::listen::issued::{Issued, IssuedError, IssuedPair};
use crate::store::{Vault, VaultError};

/// How often to look into the vault for what other gateways have put there.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The same, while there is no certificate, or another gateway is ordering one.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// How long an order may take in all.
const ORDER_TIMEOUT: Duration = Duration::from_mins(5);

/// How long the right to order holds in Redis: longer than an order takes.
const LEASE: Duration = Duration::from_mins(6);

/// How often to ask the authority when to renew: as it says, within these bounds.
const ADVICE_EVERY_MIN: Duration = Duration::from_mins(1);
const ADVICE_EVERY_MAX: Duration = Duration::from_hours(24);

/// The same, when it did not say how long its advice holds or has none.
const ADVICE_EVERY: Duration = Duration::from_hours(6);

/// The first question about a certificate comes when this part of its time is over, which matters to those of a few minutes alone.
const ADVICE_PART: u32 = 6;

/// How long the question may take.
const ADVICE_TIMEOUT: Duration = Duration::from_mins(1);

/// One certificate, and what keeps it.
pub(super) struct Keeper {
    settings: Acme,
    vault: Arc<Vault>,
    issued: Arc<Issued>,
    metrics: Arc<Metrics>,
    /// What its records are called.
    record: String,
    /// What logs and metrics call it.
    label: String,
    current: Option<IssuedPair>,
    /// When the authority wants it renewed, in seconds since the Unix epoch.
    advised: Option<i64>,
    ask_at: Instant,
    failures: u32,
    /// No attempt before.
    retry_at: Instant,
    /// Whether the vault could not be read the last time.
    vault_away: bool,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("the vault")]
    Vault(#[from] VaultError),
    #[error("what was issued cannot be shown: {0}")]
    Issued(IssuedError),
    #[error("the authority took longer than {:?}", ORDER_TIMEOUT)]
    Late,
}

/// What became of an attempt.
enum Attempt {
    Obtained,
    /// Another gateway is at it.
    Elsewhere,
}

/// What logs and metrics call the certificate of these settings.
pub(super) fn label(settings: &Acme) -> String {
    format!("acme:{}", settings.names.first().map_or("", |name| &**name))
}

impl Keeper {
    pub(super) fn new(settings: Acme, vault: Arc<Vault>, issued: Arc<Issued>, metrics: Arc<Metrics>) -> Self {
        let (record, label) = (order::record_of(&settings), label(&settings));
        let now = Instant::now();
        Self {
            settings,
            vault,
            issued,
            metrics,
            record,
            label,
            current: None,
            advised: None,
            ask_at: now,
            failures: 0,
            retry_at: now,
            vault_away: false,
        }
    }

    /// Keeps it for ever.
    pub(super) async fn keep(mut self) {
        loop {
            match self.take_in().await {
                Ok(_) => self.vault_away = false,
                // Once an outage: without a certificate there is a look every second.
                Err(_) if self.vault_away => {}
                Err(error) => {
                    self.vault_away = true;
                    tracing::warn!(certificate = %self.label, error = %with_causes(&error), "the vault cannot be read");
                }
            }
            self.ask_for_advice().await;
            let wait = match self.due_in() {
                Some(wait) if wait > Duration::ZERO => wait.min(self.look_in()),
                _ => self.attempt().await,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// How long until the next look into the vault, or question to the authority if that comes first.
    fn look_in(&self) -> Duration {
        let ask_in = self.ask_at.saturating_duration_since(Instant::now());
        // Nothing may be left to ask, as for a certificate that cannot be named.
        if ask_in.is_zero() { LOOK_EVERY } else { ask_in.min(LOOK_EVERY) }
    }

    /// How long until it is to be renewed; `None` without a certificate.
    fn due_in(&self) -> Option<Duration> {
        let current = self.current.as_ref()?;
        let due = schedule::due(current.begins, current.ends, self.settings.renew_before, self.advised);
        Some(Duration::from_secs(u64::try_from(due.saturating_sub(unix_now())).unwrap_or(0)))
    }

    /// Tries to get a certificate, unless it is too early for that after the last failure. How long to wait then.
    async fn attempt(&mut self) -> Duration {
        let soon = if self.current.is_some() { LOOK_EVERY } else { LOOK_SOON };
        if let Some(early) = self.retry_at.checked_duration_since(Instant::now()).filter(|early| !early.is_zero()) {
            return early.min(soon);
        }
        match self.renew().await {
            Ok(Attempt::Obtained) => {
                self.failures = 0;
                Duration::ZERO
            }
            Ok(Attempt::Elsewhere) => LOOK_SOON,
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let retry_after = schedule::retry_after(self.failures);
                self.retry_at = Instant::now() + retry_after;
                self.metrics.certificate_ordered(&self.label, false);
                let (error, seconds) = (with_causes(&error), retry_after.as_secs());
                tracing::warn!(certificate = %self.label, %error, retry_after_seconds = seconds, "no new certificate");
                retry_after.min(soon)
            }
        }
    }

    /// Orders it, unless another gateway is at it or was faster.
    async fn renew(&mut self) -> Result<Attempt, KeepError> {
        let Some(lease) = self.vault.lease(&self.record, LEASE).await? else { return Ok(Attempt::Elsewhere) };
        let outcome = self.renew_alone().await;
        lease.release().await;
        outcome
    }

    async fn renew_alone(&mut self) -> Result<Attempt, KeepError> {
        // Whoever had the lease before may have put it there since we looked.
        if self.take_in().await? && self.due_in().is_some_and(|wait| !wait.is_zero()) {
            return Ok(Attempt::Obtained);
        }
        // Only an authority that gives advice wants to know what is replaced.
        let replaced = self.advised.and(self.current.as_ref()).and_then(IssuedPair::leaf).cloned();
        let obtained = order::obtain(&self.settings, &self.vault, replaced.as_ref());
        let pem = tokio::time::timeout(ORDER_TIMEOUT, obtained).await.map_err(|_| KeepError::Late)??;
        let pair = IssuedPair::read(pem.as_bytes(), &self.settings.names).map_err(KeepError::Issued)?;
        let ends = pair.ends;
        self.metrics.certificate_ordered(&self.label, true);
        // Shown first: it is good even where it cannot be kept.
        self.show(pair);
        // Whatever the authority makes of dates: the next order is not at once.
        let left = u64::try_from(ends.saturating_sub(unix_now())).unwrap_or(0);
        self.retry_at = Instant::now() + Duration::from_secs((left / 3).max(1));
        tracing::info!(certificate = %self.label, ends_unix_seconds = ends, "certificate obtained");
        if let Err(error) = self.vault.write(&self.certificate_record(), pem.into_bytes()).await {
            tracing::error!(certificate = %self.label, error = %with_causes(&error), "the certificate is not shared");
        }
        Ok(Attempt::Obtained)
    }

    /// Takes in what is in the vault, if it ends later than what is shown. Whether it did.
    async fn take_in(&mut self) -> Result<bool, VaultError> {
        let mut newer = false;
        let copies = self.vault.copies(&self.certificate_record()).await?;
        for copy in copies {
            match IssuedPair::read(&copy, &self.settings.names) {
                Ok(pair) if self.current.as_ref().is_none_or(|current| current.ends < pair.ends) => {
                    let ends = pair.ends;
                    self.show(pair);
                    tracing::info!(certificate = %self.label, ends_unix_seconds = ends, "certificate taken in");
                    newer = true;
                }
                Ok(_) => {}
                // One that has ended is the usual reason; a new one is ordered then.
                Err(error) => {
                    tracing::debug!(certificate = %self.label, %error, "a certificate that is kept is of no use");
                }
            }
        }
        Ok(newer)
    }

    fn show(&mut self, pair: IssuedPair) {
        let left = Duration::from_secs(u64::try_from(pair.ends.saturating_sub(unix_now())).unwrap_or(0));
        self.issued.put(&self.settings.names, &pair);
        self.metrics.certificate_ends(&self.label, pair.ends);
        self.current = Some(pair);
        // What was advised was advised for the other one. Not at once: a fresh certificate that is told to go at once, again and
        // again, would be a loop.
        self.advised = None;
        self.ask_at = Instant::now() + ADVICE_EVERY_MIN.min(left / ADVICE_PART);
        self.failures = 0;
        self.retry_at = Instant::now();
    }

    /// Asks the authority when to renew, when it is time to ask.
    async fn ask_for_advice(&mut self) {
        let Some(leaf) = self.current.as_ref().and_then(IssuedPair::leaf) else { return };
        if Instant::now() < self.ask_at {
            return;
        }
        let asked = order::advice(&self.settings, &self.vault, leaf);
        let mut again = ADVICE_EVERY;
        match tokio::time::timeout(ADVICE_TIMEOUT, asked).await {
            Ok(Ok(Some(advice))) => {
                again = advice.holds.clamp(ADVICE_EVERY_MIN, ADVICE_EVERY_MAX);
                // A moment that was chosen stays while it is still within what is advised.
                let chosen = self.advised.filter(|chosen| (advice.start..=advice.end).contains(chosen));
                self.advised = chosen.or_else(|| Some(schedule::between(advice.start, advice.end)));
            }
            Ok(Ok(None)) => self.advised = None,
            // The end of the certificate decides alone until the next question.
            Ok(Err(error)) => {
                tracing::debug!(certificate = %self.label, error = %with_causes(&error), "no advice on renewal");
            }
            Err(_) => tracing::debug!(certificate = %self.label, "no advice on renewal in time"),
        }
        self.ask_at = Instant::now() + again;
    }

    fn certificate_record(&self) -> String {
        format!("{}.pem", self.record)
    }
}
