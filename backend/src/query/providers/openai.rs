//! `OpenAI`: asks a server of the OpenAI-compatible HTTP API.
//!
//! For: vLLM, llama.cpp, Ollama and hosted services, over `POST …/chat/completions`. May touch: the network.
//! Promises: connection and whole answer have deadlines, the answer a size; only a failed connection is tried again,
//! once, because then the server has seen nothing; redirects and proxies of the environment are not followed.
//! Read next: `embedded.rs`.

use std::time::Duration;

use common::secret::Secret;
use reqwest::{Client, Response, Url};
use serde::{Deserialize, Serialize};

use super::{BuildError, Prompt, ProviderError};
use crate::config;
use crate::query::Usage;
use crate::query::cache::Kept;

/// Attempts to connect: the first, and one more.
const CONNECT_ATTEMPTS_MAX: u32 = 2;

/// A model server.
pub(in crate::query) struct OpenAi {
    client: Client,
    url: Url,
    key: Option<Secret>,
    model: String,
    timeout: Duration,
    answer_bytes_max: usize,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: [Message<'a>; 1],
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

// Servers add members of their own; what is not needed is not read.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<CompletionUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: ChoiceMessage,
}

#[derive(Deserialize)]
struct ChoiceMessage {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct CompletionUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl OpenAi {
    pub(in crate::query) fn new(model: &config::Model) -> Result<Self, BuildError> {
        let mut builder = Client::builder()
            .connect_timeout(model.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy();
        if model.completions_url.scheme() == "http" {
            // Without TLS no certificate is looked at, so a machine without any can still ask a server beside it.
            builder = builder.tls_certs_only(std::iter::empty());
        }
        Ok(Self {
            client: builder.build().map_err(|source| BuildError { model: model.id.clone(), source })?,
            url: model.completions_url.clone(),
            key: model.key.clone(),
            model: model.upstream_name.clone(),
            timeout: model.timeout,
            answer_bytes_max: model.answer_bytes_max,
        })
    }

    pub(in crate::query) async fn ask(&self, prompt: &Prompt<'_>) -> Result<Kept, ProviderError> {
        match tokio::time::timeout(self.timeout, self.ask_in_time(prompt)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ProviderError::Timeout),
        }
    }

    async fn ask_in_time(&self, prompt: &Prompt<'_>) -> Result<Kept, ProviderError> {
        let response = self.send(prompt).await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(ProviderError::Status { status: response.status().as_u16() });
        }
        let body = self.read(response).await?;
        let completion: Completion = serde_json::from_slice(&body).map_err(ProviderError::Malformed)?;
        let text = completion.choices.into_iter().next().and_then(|choice| choice.message.content);
        let usage = completion.usage.map_or(Usage { prompt_tokens: 0, completion_tokens: 0 }, |usage| Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
        });
        let text = text.filter(|text| !text.is_empty()).ok_or(ProviderError::Empty)?;
        Ok(Kept { text, usage })
    }

    async fn send(&self, prompt: &Prompt<'_>) -> Result<Response, ProviderError> {
        let request = Request {
            model: &self.model,
            messages: [Message { role: "user", content: prompt.text }],
            max_tokens: prompt.tokens_max,
            temperature: prompt.temperature,
            stream: false,
        };
        let mut attempt = 1;
        loop {
            let mut builder = self.client.post(self.url.clone()).json(&request);
            if let Some(key) = &self.key {
                builder = builder.bearer_auth(key.expose());
            }
            match builder.send().await {
                Ok(response) => return Ok(response),
                Err(error) if error.is_connect() && attempt < CONNECT_ATTEMPTS_MAX => attempt += 1,
                // The address may hold what the operator does not want in a log of errors.
                Err(error) => return Err(failure(error.without_url())),
            }
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ProviderError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(error.without_url()))? {
            if body.len().saturating_add(chunk.len()) > self.answer_bytes_max {
                return Err(ProviderError::TooLarge { bytes_max: self.answer_bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn failure(error: reqwest::Error) -> ProviderError {
    // A connection that took too long is a failed connection, not a slow model.
    if error.is_connect() {
        ProviderError::Connect(error)
    } else if error.is_timeout() {
        ProviderError::Timeout
    } else {
        ProviderError::Broken(error)
    }
}
