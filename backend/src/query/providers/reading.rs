//! Reading: a streamed answer, piece by piece, as a model's server sends it.
//!
//! For: `openai.rs`. May touch: the network, of which it only reads.
//! Promises: the wait for each piece, the whole, and the bytes are bounded; an answer without text is an error before
//! anything else is told; when it is dropped, the connection goes with it, and so does the server's work.
//! Read next: `sse.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::sse::{Parser, TooLong};
use super::wire::Chunk;
use super::{Piece, Pieces, ProviderError};
use crate::query::{FinishReason, Usage};

/// What ends a stream.
const DONE: &[u8] = b"[DONE]";

/// How much larger a stream may be than its text: a word comes wrapped in some two hundred bytes.
const WRAPPING_FACTOR: usize = 64;

/// What bounds an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// When the first event must be there.
    pub(super) first_by: Instant,
    /// How long each further event may take.
    pub(super) event_timeout: Duration,
    /// When the answer must be complete.
    pub(super) ends_at: Instant,
    /// The most text, in bytes.
    pub(super) text_bytes_max: usize,
}

struct Reading {
    response: Response,
    limits: Limits,
    parser: Parser,
    pieces: VecDeque<Piece>,
    next_by: Instant,
    stream_bytes: usize,
    text_bytes: usize,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
    ended: bool,
}

/// The pieces of this answer.
pub(super) fn pieces(response: Response, limits: Limits) -> Pieces {
    let reading = Reading {
        response,
        limits,
        parser: Parser::default(),
        pieces: VecDeque::new(),
        next_by: limits.first_by,
        stream_bytes: 0,
        text_bytes: 0,
        usage: None,
        finish: None,
        ended: false,
    };
    stream::try_unfold(reading, Reading::next).boxed()
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Piece, Self)>, ProviderError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some((piece, self)));
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// Reads until something has come, whatever it is.
    async fn read(&mut self) -> Result<(), ProviderError> {
        let by = self.next_by.min(self.limits.ends_at);
        let chunk = timeout_at(by, self.response.chunk()).await.map_err(|_| ProviderError::Timeout)?;
        let Some(bytes) = chunk.map_err(ProviderError::of)? else {
            // Some servers leave out the last line, but none the reason why it stopped.
            return if self.finish.is_some() { self.end() } else { Err(ProviderError::Cut) };
        };
        self.stream_bytes = self.stream_bytes.saturating_add(bytes.len());
        let stream_bytes_max = self.limits.text_bytes_max.saturating_mul(WRAPPING_FACTOR);
        if self.stream_bytes > stream_bytes_max {
            return Err(ProviderError::TooLarge { bytes_max: stream_bytes_max });
        }
        let mut events = Vec::new();
        self.parser
            .feed(&bytes, &mut events)
            .map_err(|TooLong { bytes_max }| ProviderError::TooLarge { bytes_max })?;
        for event in events {
            if event == DONE {
                // The end of the body usually comes with it; read to the end, the connection can be used again.
                let _ = self.response.chunk().now_or_never();
                return self.end();
            }
            self.take(&event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: &[u8]) -> Result<(), ProviderError> {
        let chunk: Chunk = serde_json::from_slice(event).map_err(ProviderError::Malformed)?;
        if chunk.error.is_some() {
            return Err(ProviderError::Failed);
        }
        // Only events count as a sign of life: comments keep a connection alive, but no answer.
        self.next_by = Instant::now() + self.limits.event_timeout;
        if let Some(usage) = chunk.usage {
            self.usage = Some(usage.into());
        }
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(()) };
        if let Some(reason) = choice.finish_reason {
            self.finish = Some(FinishReason::of(&reason));
        }
        if let Some(text) = choice.delta.and_then(|delta| delta.content).filter(|text| !text.is_empty()) {
            self.text_bytes = self.text_bytes.saturating_add(text.len());
            if self.text_bytes > self.limits.text_bytes_max {
                return Err(ProviderError::TooLarge { bytes_max: self.limits.text_bytes_max });
            }
            self.pieces.push_back(Piece::Text(text));
        }
        Ok(())
    }

    /// What is told last: by now the answer is known to be one.
    fn end(&mut self) -> Result<(), ProviderError> {
        self.ended = true;
        if self.text_bytes == 0 {
            return Err(ProviderError::Empty);
        }
        self.pieces.extend(self.usage.map(Piece::Usage));
        self.pieces.push_back(Piece::Finish(self.finish.unwrap_or_default()));
        Ok(())
    }
}
