//! Upkeep: what a process does beside answering, on timers, until it is told to end.
//!
//! For: `run`, which joins it with the listeners. May touch: everything below `app`.
//! Promises: nothing here ends the program; an outage is told once where it would be told many times a minute; each
//! round deletes a bounded number of rows. Read next: `../app.rs`.

use std::time::Duration;

use common::telemetry::with_causes;
use tokio::sync::watch;

use super::App;
use crate::auth::{FLUSH_PERIOD, FOLLOW_PERIOD, KEYS_PERIOD};
use crate::base::time::{now_seconds, to_signed};
use crate::storage::StorageError;

/// How often what has expired is deleted; the first time is at start.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_hours(1);

/// Batches deleted in one go; what is left waits for the next hour.
const HOUSEKEEPING_BATCHES_MAX: usize = 100;

/// Writes down when keys were used, on a timer.
pub(super) async fn note_uses(app: &App, mut stopped: watch::Receiver<bool>) {
    while !wait(FLUSH_PERIOD, &mut stopped).await {
        flush_uses(app).await;
    }
}

pub(super) async fn flush_uses(app: &App) {
    if let Err(error) = app.last_used.flush(&app.store).await {
        tracing::error!(error = with_causes(&error), "the last uses of API keys could not be noted");
    }
}

/// Learns what other processes withdraw. While the database is away, what is known stays known.
pub(super) async fn follow_withdrawals(app: &App, mut stopped: watch::Receiver<bool>) {
    let mut was_heard = true;
    while !wait(FOLLOW_PERIOD, &mut stopped).await {
        let heard = app.services.withdrawals.follow().await;
        match &heard {
            Ok(()) if !was_heard => tracing::info!("withdrawals of other processes are heard of again"),
            // Once an outage.
            Err(error) if was_heard => {
                tracing::error!(error = with_causes(error), "withdrawals of other processes are not heard of");
            }
            _ => {}
        }
        was_heard = heard.is_ok();
    }
}

/// Signs and verifies with the keys of each moment, whoever made them.
pub(super) async fn follow_keys(app: &App, mut stopped: watch::Receiver<bool>) {
    let mut was_known = true;
    while !wait(KEYS_PERIOD, &mut stopped).await {
        let followed = app.keyring.follow().await;
        let known = followed.is_ok();
        match followed {
            Ok(Some(keys)) => {
                tracing::info!(
                    signing = keys.signing_id(),
                    published = keys.count(),
                    "the signing keys have changed"
                );
                app.services.tokens.use_keys(keys);
            }
            // Once an outage.
            Err(error) if was_known => {
                tracing::error!(
                    error = with_causes(&error),
                    "the signing keys cannot be known; those known are kept"
                );
            }
            Ok(None) | Err(_) => {}
        }
        was_known = known;
    }
}

/// Keeps the program's own numbers, on a timer and once more at the end.
pub(super) async fn keep_history(app: &App, every: Duration, mut stopped: watch::Receiver<bool>) {
    loop {
        let ends = wait(every, &mut stopped).await;
        if let Err(error) = app.services.history.record().await {
            tracing::warn!(error = with_causes(&error), "an interval of the numbers could not be kept");
        }
        if ends {
            return;
        }
    }
}

/// Deletes what has expired, at start and on a timer.
pub(super) async fn keep_house(app: &App, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = clean(app).await {
            tracing::error!(error = with_causes(&error), "what has expired could not be deleted");
        }
        if wait(HOUSEKEEPING_PERIOD, &mut stopped).await {
            return;
        }
    }
}

/// A bounded number of batches of everything that expires.
async fn clean(app: &App) -> Result<(), StorageError> {
    let (store, now) = (&app.store, now_seconds(&*app.clock));
    let jobs_before = now.saturating_sub(to_signed(app.services.jobs.settings.retention.as_secs()));
    in_batches(async || store.audit_events_clean(now).await).await?;
    in_batches(async || store.refresh_tokens_clean(now).await).await?;
    in_batches(async || store.api_keys_clean(now).await).await?;
    in_batches(async || store.requests_clean(now).await).await?;
    in_batches(async || store.withdrawals_clean(now).await).await?;
    in_batches(async || store.jobs_clean(jobs_before).await).await?;
    in_batches(async || app.services.history.clean().await).await?;
    app.keyring.clean().await
}

/// Goes on while there may be more, to a bound.
async fn in_batches(clean: impl AsyncFn() -> Result<bool, StorageError>) -> Result<(), StorageError> {
    for _ in 0..HOUSEKEEPING_BATCHES_MAX {
        if !clean().await? {
            break;
        }
    }
    Ok(())
}

/// Waits for the period, or until the program is to end; says whether it is.
async fn wait(period: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(period) => false,
        _ = stopped.wait_for(|stop| *stop) => true,
    }
}
