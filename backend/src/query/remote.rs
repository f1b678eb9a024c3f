//! Remote: answers that are kept for all processes, in Redis.
//!
//! For: `cache.rs`, behind the answers of this process. May touch: `shared::Values`.
//! Promises: what cannot be read, or is by a model that this process does not have, is not there; nothing of an answer is
//! logged. Who may have an answer is in its key. Read next: `shared/values.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::cache::{Kept, Key};
use super::{FinishReason, Usage};
use crate::shared::Values;

/// The answers of all processes.
pub(super) struct Remote {
    values: Values,
    /// The ids of this process's models. They become labels of metrics, so no others are believed.
    models: HashSet<String>,
}

/// An answer, as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    text: String,
    prompt_tokens: u64,
    completion_tokens: u64,
    finish: String,
    model: String,
    detour: Option<String>,
}

impl Remote {
    pub(super) fn new(values: Values, models: HashSet<String>) -> Self {
        Self { values, models }
    }

    /// The kept answer, and how much longer it is kept.
    pub(super) async fn get(&self, key: &Key) -> Option<(Kept, Duration)> {
        let found = self.values.get(&name(key)).await.ok()??;
        let Ok(written) = serde_json::from_str::<Written>(&found.text) else {
            tracing::warn!("an answer in Redis cannot be read, and is asked for anew");
            return None;
        };
        if !self.models.contains(&written.model) {
            return None;
        }
        let Written { text, prompt_tokens, completion_tokens, finish, model, detour } = written;
        let usage = Usage { prompt_tokens, completion_tokens };
        Some((Kept { text, usage, finish: FinishReason::of(&finish), model, detour }, found.left))
    }

    /// Keeps an answer, if Redis is there and the answer is not too large for it.
    pub(super) async fn put(&self, key: &Key, kept: &Kept, ttl: Duration) {
        let written = Written {
            text: kept.text.clone(),
            prompt_tokens: kept.usage.prompt_tokens,
            completion_tokens: kept.usage.completion_tokens,
            finish: kept.finish.as_str().to_owned(),
            model: kept.model.clone(),
            detour: kept.detour.clone(),
        };
        let written = match serde_json::to_string(&written) {
            Ok(written) => written,
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written for Redis");
                return;
            }
        };
        match self.values.put(&name(key), &written, ttl).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(bytes = written.len(), "an answer is kept in this process alone"),
            Err(_) => tracing::debug!("an answer is kept in this process alone: Redis is away"),
        }
    }

    /// Forgets all answers.
    pub(super) async fn clear(&self) {
        self.values.clear().await;
    }

    /// Changes whenever somebody forgets all answers.
    pub(super) fn generation(&self) -> Option<Arc<str>> {
        self.values.generation()
    }
}

fn name(key: &Key) -> String {
    URL_SAFE_NO_PAD.encode(key)
}
