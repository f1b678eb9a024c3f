//! `OpenAI`: asks a server of the OpenAI-compatible HTTP API.
//!
//! For: vLLM, llama.cpp, Ollama and hosted services, over `POST …/chat/completions`, whole or streamed.
//! May touch: the network. Promises: each wait has a deadline and the answer a size; it asks once, and leaves asking again
//! to `failover.rs`; redirects and proxies of the environment are not followed.
//! Read next: `reading.rs` for streamed answers, `embedded.rs` for no server at all.

use std::time::Duration;

use common::secret::Secret;
use common::{body, http_client};
use futures::{StreamExt as _, stream};
use http::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use super::reading::{self, Limits};
use super::wire::{Completion, Request};
use super::{Mode, Piece, Pieces, Prompt, ProviderError};
use crate::config;
use crate::query::{BuildError, FinishReason};

/// A model server.
pub(in crate::query) struct OpenAi {
    client: Client,
    url: Url,
    key: Option<Secret>,
    model: String,
    timeout: Duration,
    first_token_timeout: Duration,
    token_timeout: Duration,
    answer_bytes_max: usize,
}

impl OpenAi {
    pub(in crate::query) fn new(model: &config::Model) -> Result<Self, BuildError> {
        let client = http_client::for_server(&model.completions_url, model.connect_timeout)
            .build()
            .map_err(|source| BuildError::Client { model: model.id.clone(), source })?;
        Ok(Self {
            client,
            url: model.completions_url.clone(),
            key: model.key.clone(),
            model: model.upstream_name.clone(),
            timeout: model.timeout,
            first_token_timeout: model.first_token_timeout,
            token_timeout: model.token_timeout,
            answer_bytes_max: model.answer_bytes_max,
        })
    }

    /// Asks. A whole answer is there when this returns; of a streamed one, its head is.
    pub(in crate::query) async fn begin(&self, prompt: &Prompt<'_>, mode: Mode) -> Result<Pieces, ProviderError> {
        let asked_at = Instant::now();
        let ends_at = asked_at + self.timeout;
        match mode {
            Mode::Whole => {
                let whole = timeout_at(ends_at, self.whole(prompt)).await;
                let pieces = whole.map_err(|_| ProviderError::Timeout)??;
                Ok(stream::iter(pieces.into_iter().map(Ok)).boxed())
            }
            Mode::Streamed => {
                let first_by = ends_at.min(asked_at + self.first_token_timeout);
                let response = timeout_at(first_by, self.send(prompt, true)).await;
                let limits = Limits {
                    first_by,
                    event_timeout: self.token_timeout,
                    ends_at,
                    text_bytes_max: self.answer_bytes_max,
                };
                Ok(reading::pieces(response.map_err(|_| ProviderError::Timeout)??, limits))
            }
        }
    }

    async fn whole(&self, prompt: &Prompt<'_>) -> Result<Vec<Piece>, ProviderError> {
        let response = self.send(prompt, false).await?;
        let body = body::read(response, self.answer_bytes_max).await?;
        let completion: Completion = serde_json::from_slice(&body).map_err(ProviderError::Malformed)?;
        let choice = completion.choices.into_iter().next().ok_or(ProviderError::Empty)?;
        let text = choice.message.content.filter(|text| !text.is_empty()).ok_or(ProviderError::Empty)?;
        let mut pieces = vec![Piece::Text(text)];
        pieces.extend(completion.usage.map(|usage| Piece::Usage(usage.into())));
        pieces.push(Piece::Finish(choice.finish_reason.as_deref().map_or(FinishReason::Stop, FinishReason::of)));
        Ok(pieces)
    }

    async fn send(&self, prompt: &Prompt<'_>, stream: bool) -> Result<Response, ProviderError> {
        let mut builder = self.client.post(self.url.clone()).json(&Request::new(&self.model, prompt, stream));
        if let Some(key) = &self.key {
            builder = builder.bearer_auth(key.expose());
        }
        let response = builder.send().await.map_err(ProviderError::of)?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(ProviderError::Status { status: response.status().as_u16(), retry_after: retry_after(&response) })
    }
}

/// When the server wants to be asked again, where it says so in seconds. The other form, a date, needs clocks that agree.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
