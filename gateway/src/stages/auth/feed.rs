//! Feed: hears what was withdrawn, at an interval, from an endpoint and from the store that gateways share.
//!
//! The endpoint answers `GET ?after=CURSOR` with `{"cursor": "…", "entries": […]}`, entries as in `revocations.rs`. What it told
//! once is kept when it goes away.

use std::sync::{Arc, Weak};
use std::time::Duration;

use common::body::{self, BodyError};
use common::secret::Secret;
use common::telemetry::with_causes;
use prometheus::IntGauge;

use super::revocations::{ENTRIES_MAX, Entry, Revocations};
use crate::base::telemetry::metrics::Presence;
use crate::config::checked;
use crate::stages::context::Now;
use crate::store::Store;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How often the store is asked whether there is news.
const STORE_EVERY: Duration = Duration::from_millis(250);

/// An endpoint that says what was withdrawn. As long as it is held, it is asked.
#[derive(Debug)]
pub(crate) struct Feed {
    urls: Vec<url::Url>,
    secret: Option<Secret>,
    every: Duration,
    timeout: Duration,
    client: reqwest::Client,
    revocations: Arc<Revocations>,
    up: Presence,
    known: IntGauge,
}

/// Why nothing was heard.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("the feed of withdrawals could not be asked")]
    Ask(#[source] reqwest::Error),
    #[error("the feed of withdrawals could not be read")]
    Read(#[from] BodyError),
    #[error("the feed of withdrawals did not answer in its form")]
    Form(#[source] serde_json::Error),
    #[error("the feed of withdrawals has no address")]
    NoSource,
}

#[derive(serde::Deserialize)]
struct Answer {
    cursor: String,
    entries: Vec<Entry>,
}

impl Feed {
    pub(crate) fn new(
        settings: &checked::Revocations,
        secret: Option<Secret>,
        client: reqwest::Client,
        revocations: &Arc<Revocations>,
        (up, known): (Presence, IntGauge),
    ) -> Self {
        Self {
            urls: settings.urls.iter().map(|url| url.0.clone()).collect(),
            secret,
            every: settings.every.duration(),
            timeout: settings.timeout.duration(),
            client,
            revocations: Arc::clone(revocations),
            up,
            known,
        }
    }

    /// Asks one URL after the other.
    async fn ask(&self, cursor: Option<&str>) -> Result<Answer, FeedError> {
        let mut outcome = Err(FeedError::NoSource);
        for url in &self.urls {
            outcome = self.ask_at(url, cursor).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn ask_at(&self, url: &url::Url, cursor: Option<&str>) -> Result<Answer, FeedError> {
        let mut url = url.clone();
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("after", cursor);
        }
        let mut request = self.client.get(url).timeout(self.timeout);
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret.expose());
        }
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        let body = body::read(answer.map_err(FeedError::Ask)?, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(FeedError::Form)
    }
}

/// What is not in use is not shown. A feed in its place shows itself with its next answer.
impl Drop for Feed {
    fn drop(&mut self) {
        self.up.hide();
    }
}

/// Asks at the feed's interval, until the feed is gone.
pub(crate) fn follow(feed: &Arc<Feed>) {
    let feed: Weak<Feed> = Arc::downgrade(feed);
    tokio::spawn(async move {
        let mut cursor: Option<String> = None;
        let mut was_up = true;
        while let Some(feed) = feed.upgrade() {
            let answer = feed.ask(cursor.as_deref()).await;
            let up = answer.is_ok();
            feed.up.show(up);
            match answer {
                Ok(answer) => {
                    feed.revocations.add(answer.entries, Now::read());
                    feed.revocations.note_heard();
                    feed.known.set(i64::try_from(feed.revocations.count()).unwrap_or(i64::MAX));
                    cursor = Some(answer.cursor);
                    if !was_up {
                        tracing::info!("the feed of withdrawals is back");
                    }
                }
                // Once an outage.
                Err(error) if was_up => {
                    tracing::warn!(error = with_causes(&error), "no news of withdrawals; what is known is kept");
                }
                Err(_) => {}
            }
            was_up = up;
            let every = feed.every;
            drop(feed);
            tokio::time::sleep(every).await;
        }
    });
}

/// Asks the store at an interval, until it is gone; and tells it anew what it has lost.
pub(crate) fn follow_store(store: &Arc<Store>, revocations: &Arc<Revocations>, known: IntGauge) {
    let (store, revocations) = (Arc::downgrade(store), Arc::clone(revocations));
    tokio::spawn(async move {
        let mut version = 0;
        let mut told: Vec<Entry> = Vec::new();
        while let Some(store) = store.upgrade() {
            if store.is_up()
                && let Ok(news) = store.withdrawn(version, ENTRIES_MAX).await
            {
                if news.version < version {
                    // It came back without what it knew: whoever of the gateways still knows tells it again.
                    for entry in told.iter().filter(|entry| entry.ends > Now::read().unix_seconds) {
                        // A store that is away again is told the next time.
                        let _ = store.withdraw(entry.ends, &serde_json::to_vec(entry).unwrap_or_default()).await;
                    }
                }
                if let Some(members) = news.members {
                    told = members.iter().filter_map(|member| serde_json::from_slice(member).ok()).collect();
                    revocations.add(told.iter().cloned(), Now::read());
                    known.set(i64::try_from(revocations.count()).unwrap_or(i64::MAX));
                }
                version = news.version;
            }
            drop(store);
            tokio::time::sleep(STORE_EVERY).await;
        }
    });
}
