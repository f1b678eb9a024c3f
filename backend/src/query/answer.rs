//! Answer: what came of a question, and how.
//!
//! For: whoever shows it, whole or piece by piece. May touch: nothing.
//! Promises: it names the model that gave it and why, and everything that was added to the question.
//! Read next: `stream.rs`.

use std::time::Duration;

use super::router::Routed;

/// How many tokens a question and its answer took, as the model counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the question.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinishReason {
    /// It had said all.
    #[default]
    Stop,
    /// It reached the most tokens.
    Length,
    /// Its server held something back.
    ContentFilter,
}

/// The playbook that was put before a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ace {
    /// Its id.
    pub playbook: String,
    /// What its keywords scored.
    pub score: u32,
    /// How many characters it added.
    pub added_chars: usize,
}

/// What came of running an answer's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Whether it ran, to whatever end.
    pub executed: bool,
    /// What it wrote to standard output, cut where it was too long.
    pub stdout: String,
    /// What it wrote to standard error, cut where it was too long.
    pub stderr: String,
    /// How it ended; 0 is well.
    pub exit_code: Option<i64>,
    /// Why it did not run, or was ended; one sentence, for people.
    pub error: Option<String>,
    /// From the question to the sandbox to its answer.
    pub took: Duration,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// This answer's own id.
    pub id: String,
    /// When it was asked for, in seconds of the Unix epoch.
    pub asked_at: u64,
    /// The text.
    pub text: String,
    /// How the model was chosen.
    pub routed: Routed,
    /// Whether the text was kept from an earlier time.
    pub cached: bool,
    /// As the model counted when it answered.
    pub usage: Usage,
    /// Why the model stopped.
    pub finish: FinishReason,
    /// The playbook that was added; none, if `None`.
    pub ace: Option<Ace>,
    /// What its code did; `None` where no sandbox is configured or nobody asked for it.
    pub e2b: Option<Executed>,
    /// From the question to the answer.
    pub took: Duration,
}

/// How the answer cache fares, since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Answers kept now.
    pub entries: u64,
    /// Questions answered from it.
    pub hits: u64,
    /// Those among them whose answer another process had kept.
    pub shared_hits: u64,
    /// Questions that it had no answer to.
    pub misses: u64,
}

impl FinishReason {
    /// The word that the OpenAI-compatible API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }

    /// What the word means. Servers have words of their own for an ordinary end.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "length" => Self::Length,
            "content_filter" => Self::ContentFilter,
            _ => Self::Stop,
        }
    }
}

impl CacheStats {
    /// Hits among all questions, from 0 to 1; 0 before the first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub fn hit_rate(&self) -> f64 {
        let asked = self.hits.saturating_add(self.misses);
        if asked == 0 { 0.0 } else { self.hits as f64 / asked as f64 }
    }
}
