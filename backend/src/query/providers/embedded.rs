//! Embedded: the development model, which is no language model and says so.
//!
//! For: development and tests, without a network. May touch: nothing.
//! Promises: the same text always gets the same answer; each answer begins with the model's name; what it says of the
//! text is computed from the text; it is told word by word. Read next: `openai.rs` for the real thing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;

use futures::{StreamExt as _, stream};

use super::{Piece, Pieces, Prompt};
use crate::query::{FinishReason, Usage};

/// The name in configuration, answers and metrics.
pub const MODEL_ID: &str = "capibara6-dev";

/// The most tokens it gives; its tokens are words.
pub(in crate::query) const TOKENS_MAX: u32 = 512;

/// Keywords told of a text.
const KEYWORDS_MAX: usize = 5;
/// The shortest word that can be a keyword, in characters.
const KEYWORD_CHARS_MIN: usize = 4;
/// The longest sentence that is repeated, in characters.
const SENTENCE_CHARS_MAX: usize = 240;

/// Frequent words of at least `KEYWORD_CHARS_MIN` characters that say nothing about a text.
const EMPTY_WORDS: [&str; 36] = [
    "about", "also", "been", "before", "could", "does", "each", "from", "have", "into", "just", "like", "made",
    "make", "more", "most", "only", "other", "over", "please", "should", "some", "such", "than", "that", "their",
    "them", "then", "there", "these", "they", "this", "what", "when", "with", "your",
];

/// Answers, word by word and at once.
pub(super) fn begin(prompt: &Prompt<'_>) -> Pieces {
    stream::iter(pieces(prompt).into_iter().map(Ok)).boxed()
}

fn pieces(prompt: &Prompt<'_>) -> Vec<Piece> {
    let full = describe(prompt.messages.last().map_or("", |question| question.text.as_str()));
    let limit = usize::try_from(prompt.tokens_max).unwrap_or(usize::MAX);
    let words: Vec<&str> = full.split(' ').collect();
    let told = words.len().min(limit);
    let read: usize = prompt.messages.iter().map(|message| message.text.split_whitespace().count()).sum();
    let usage = Usage { prompt_tokens: read as u64, completion_tokens: told as u64 };
    let finish = if told < words.len() { FinishReason::Length } else { FinishReason::Stop };
    let spaced = |(place, word): (usize, &str)| if place == 0 { word.to_owned() } else { format!(" {word}") };
    let texts = words.into_iter().take(told).enumerate().map(spaced).map(Piece::Text);
    texts.chain([Piece::Usage(usage), Piece::Finish(finish)]).collect()
}

fn describe(text: &str) -> String {
    let sentences = sentences(text);
    let keywords = keywords(text);
    let mut answer = format!(
        "{MODEL_ID}: this is the embedded development model; no language model ran. Your text has {}, {} and {}.",
        counted(text.chars().count(), "character"),
        counted(text.split_whitespace().count(), "word"),
        counted(sentences.len(), "sentence"),
    );
    if !keywords.is_empty() {
        let told: Vec<String> = keywords.iter().map(|(word, count)| format!("{word} ({count})")).collect();
        // Writing to a String cannot fail.
        let _ = write!(answer, " Keywords: {}.", told.join(", "));
    }
    if let Some(sentence) = most_telling(&sentences, &keywords) {
        let shown: String = sentence.chars().take(SENTENCE_CHARS_MAX).collect();
        let _ = write!(answer, " Most telling sentence: \u{201c}{shown}\u{201d}");
    }
    answer
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Pieces between full stops, question marks, exclamation marks and line breaks.
fn sentences(text: &str) -> Vec<&str> {
    text.split_inclusive(['.', '?', '!', '\n'])
        .map(str::trim)
        .filter(|sentence| sentence.chars().any(char::is_alphanumeric))
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The most frequent telling words; among equals, the one that comes first.
fn keywords(text: &str) -> Vec<(String, usize)> {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for (place, word) in words(text).enumerate() {
        if word.chars().count() >= KEYWORD_CHARS_MIN && !EMPTY_WORDS.contains(&word.as_str()) {
            counts.entry(word).or_insert((0, place)).0 += 1;
        }
    }
    let mut ranked: Vec<(String, (usize, usize))> = counts.into_iter().collect();
    ranked.sort_by_key(|(_, (count, place))| (Reverse(*count), *place));
    ranked.into_iter().take(KEYWORDS_MAX).map(|(word, (count, _))| (word, count)).collect()
}

/// The sentence that holds most of the keywords' weight; among equals, the first.
fn most_telling<'t>(sentences: &[&'t str], keywords: &[(String, usize)]) -> Option<&'t str> {
    let weight = |sentence: &str| -> usize {
        words(sentence)
            .filter_map(|word| keywords.iter().find(|(known, _)| *known == word))
            .map(|(_, count)| *count)
            .sum()
    };
    let mut best: Option<(usize, &'t str)> = None;
    for sentence in sentences {
        let sum = weight(sentence);
        if best.is_none_or(|(most, _)| sum > most) {
            best = Some((sum, sentence));
        }
    }
    best.map(|(_, sentence)| sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Message, Role};

    struct Told {
        text: String,
        usage: Usage,
        finish: FinishReason,
    }

    fn answer(text: &str, tokens_max: u32) -> Told {
        let messages = [Message { role: Role::User, text: text.to_owned() }];
        let mut told = Told { text: String::new(), usage: Usage::default(), finish: FinishReason::Stop };
        for piece in pieces(&Prompt { messages: &messages, tokens_max, temperature: None }) {
            match piece {
                Piece::Text(text) => told.text.push_str(&text),
                Piece::Usage(usage) => told.usage = usage,
                Piece::Finish(finish) => told.finish = finish,
            }
        }
        told
    }

    #[test]
    fn it_names_itself_and_describes_the_text() {
        let kept = answer("Rivers flow. Capybaras love rivers and water.\nWater is wet!", TOKENS_MAX);
        assert_eq!(
            kept.text,
            "capibara6-dev: this is the embedded development model; no language model ran. \
             Your text has 59 characters, 10 words and 3 sentences. \
             Keywords: rivers (2), water (2), flow (1), capybaras (1), love (1). \
             Most telling sentence: \u{201c}Capybaras love rivers and water.\u{201d}"
        );
        assert_eq!(kept.usage.prompt_tokens, 10);
        assert_eq!(kept.usage.completion_tokens, kept.text.split(' ').count() as u64);
    }

    #[test]
    fn the_same_text_gets_the_same_answer() {
        let text = "Alpha bravo charlie delta echo foxtrot golf hotel india juliett.";
        assert_eq!(answer(text, TOKENS_MAX).text, answer(text, TOKENS_MAX).text);
    }

    #[test]
    fn tokens_are_words_and_bounded() {
        let kept = answer("Anything at all", 3);
        assert_eq!(kept.text, "capibara6-dev: this is");
        assert_eq!((kept.usage.completion_tokens, kept.finish), (3, FinishReason::Length));
        assert_eq!(answer("Anything at all", TOKENS_MAX).finish, FinishReason::Stop);
    }

    #[test]
    fn odd_texts_are_described_too() {
        for text in ["?", "…", "\n\n", "日本語のテキスト。", &"x".repeat(10_000)] {
            assert!(answer(text, TOKENS_MAX).text.starts_with(MODEL_ID), "{text:.10}");
        }
    }
}
