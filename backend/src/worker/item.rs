//! Item: one query of a batch, as it is kept, and its answer.
//!
//! For: the two texts of an item in the database, both JSON. May touch: `query`'s questions and answers.
//! Promises: an answer that is kept is bounded, and says when something of it was cut off; what an old process wrote can
//! be read: members are only added. Read next: `runner.rs`.

use serde::{Deserialize, Serialize};

use super::JobError;
use crate::query::{Answer, Question};

/// What an item asks, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ItemRequest {
    query: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

/// The answer to an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemAnswer {
    /// The text.
    pub answer: String,
    /// Whether the text's end was cut off, because it was longer than `jobs.answer_max`.
    pub truncated: bool,
    /// The id of the model that gave it.
    pub model: String,
    /// Why it was that model.
    pub reason: String,
    /// Why the model stopped: stop, length or `content_filter`.
    pub finish_reason: String,
    /// Whether the text was kept from an earlier time.
    pub cached: bool,
    /// Tokens of the query, as the model counts them.
    pub prompt_tokens: u64,
    /// Tokens of the answer, as the model counts them.
    pub completion_tokens: u64,
}

impl ItemRequest {
    /// The text that is kept of a question.
    pub(super) fn write(question: &Question) -> Result<String, JobError> {
        let request = Self {
            query: question.text.clone(),
            model: question.model.clone(),
            max_tokens: question.tokens_max,
            temperature: question.temperature,
        };
        serde_json::to_string(&request).map_err(|error| JobError::Unsound(error.into()))
    }

    /// The question that was kept as this text.
    pub(super) fn read(text: &str) -> Result<Question, JobError> {
        let request: Self = serde_json::from_str(text).map_err(|error| JobError::Unsound(error.into()))?;
        Ok(Question {
            text: request.query,
            model: request.model,
            tokens_max: request.max_tokens,
            temperature: request.temperature,
            ..Question::default()
        })
    }
}

impl ItemAnswer {
    /// What is kept of an answer: its text up to `bytes_max`.
    pub(super) fn of(answer: Answer, bytes_max: usize) -> Self {
        let mut text = answer.text;
        let truncated = text.len() > bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        Self {
            answer: text,
            truncated,
            model: answer.routed.model,
            reason: answer.routed.reason,
            finish_reason: answer.finish.as_str().to_owned(),
            cached: answer.cached,
            prompt_tokens: answer.usage.prompt_tokens,
            completion_tokens: answer.usage.completion_tokens,
        }
    }

    /// The text that is kept.
    pub(super) fn write(&self) -> Result<String, JobError> {
        serde_json::to_string(self).map_err(|error| JobError::Unsound(error.into()))
    }

    /// The answer that was kept as this text.
    pub(super) fn read(text: &str) -> Result<Self, JobError> {
        serde_json::from_str(text).map_err(|error| JobError::Unsound(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_comes_back_as_it_was() {
        let question = Question { model: Some("m".into()), temperature: Some(0.5), ..Question::new("Wärme?") };
        let back = ItemRequest::read(&ItemRequest::write(&question).expect("written")).expect("read");
        assert_eq!((back.text.as_str(), back.model.as_deref()), ("Wärme?", Some("m")));
        assert_eq!((back.tokens_max, back.temperature), (None, Some(0.5)));
        assert!(ItemRequest::read("{}").is_err(), "a question has a text");
    }
}
