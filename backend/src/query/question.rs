//! Question: what is asked, and what came before it.
//!
//! For: one text, or the end of a whole conversation. May touch: nothing.
//! Promises: what passes `check` is bounded in count and length. Read next: `mod.rs` for what is made of it.

use super::QueryError;

/// The longest question, in characters.
pub const QUESTION_CHARS_MAX: usize = 32_768;
/// The most messages before the question.
pub const HISTORY_MESSAGES_MAX: usize = 100;
/// The most characters of all of these together.
pub const HISTORY_CHARS_MAX: usize = 131_072;
/// The highest temperature that the OpenAI-compatible API knows.
const TEMPERATURE_MAX: f64 = 2.0;
/// The most bytes of a character in UTF-8.
const BYTES_A_CHAR_MAX: usize = 4;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever set the model up.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: String,
}

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The text.
    pub text: String,
    /// What was said before, in order; nothing, for a question by itself.
    pub history: Vec<Message>,
    /// Which model shall answer; the router chooses, if `None`.
    pub model: Option<String>,
    /// The most tokens of the answer; the model's own most, if `None`.
    pub tokens_max: Option<u32>,
    /// How freely the model may choose its words, from 0 to 2; the model's own default, if `None`.
    pub temperature: Option<f64>,
    /// Whether everybody who asks the same and says so too may have this answer, where the configuration allows that.
    pub public: bool,
    /// Whether code in the answer shall be run, where there is a sandbox.
    pub execute: bool,
}

impl Role {
    /// The word that the OpenAI-compatible API has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Question {
    /// A question by itself, to whichever model fits.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// `QueryError::Input` with the field.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        let wrong = |field, why: String| Err(QueryError::Input { field, why });
        if self.text.trim().is_empty() || !fits([self.text.as_str()], QUESTION_CHARS_MAX) {
            return wrong("query", format!("must have 1 to {QUESTION_CHARS_MAX} characters"));
        }
        let texts = self.history.iter().map(|message| message.text.as_str());
        if self.history.len() > HISTORY_MESSAGES_MAX || !fits(texts, HISTORY_CHARS_MAX) {
            let why = format!(
                "must have at most {HISTORY_MESSAGES_MAX} messages and {HISTORY_CHARS_MAX} characters before the question"
            );
            return wrong("messages", why);
        }
        if self.temperature.is_some_and(|temperature| !(0.0..=TEMPERATURE_MAX).contains(&temperature)) {
            return wrong("temperature", format!("must be 0 to {TEMPERATURE_MAX}"));
        }
        Ok(())
    }
}

/// Whether all texts together have that many characters at most. What is far too long is refused without being counted.
fn fits<'t>(texts: impl IntoIterator<Item = &'t str> + Clone, chars_max: usize) -> bool {
    let bytes = texts.clone().into_iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
    bytes <= chars_max.saturating_mul(BYTES_A_CHAR_MAX)
        && texts.into_iter().map(|text| text.chars().count()).sum::<usize>() <= chars_max
}
