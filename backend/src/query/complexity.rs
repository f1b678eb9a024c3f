//! Complexity: how hard a question looks, and why.
//!
//! For: choosing between a small and a large model. May touch: nothing.
//! Promises: from 0 to 100; the same text always scores the same; every point has a signal that names it, so that a
//! client can be told why. Read next: `router.rs`.

/// Words up to which a question counts as short.
const SHORT_WORDS: usize = 12;
/// Words beyond that for one more point, and the most points that length alone can give.
const WORDS_A_POINT: usize = 4;
const LENGTH_POINTS_MAX: usize = 30;

/// Points for each word that asks for reasoning, and the most of them that count.
const REASONING_POINTS: usize = 15;
const REASONING_COUNT_MAX: usize = 3;

/// Points for each question beyond the first, and the most of them that count.
const QUESTION_POINTS: usize = 8;
const QUESTION_COUNT_MAX: usize = 3;

const STEPS_POINTS: usize = 15;
const CODE_POINTS: usize = 20;
const MATHEMATICS_POINTS: usize = 10;

/// Words that ask for more than looking something up.
const REASONING_WORDS: [&str; 26] = [
    "analyse",
    "analyze",
    "argue",
    "assess",
    "compare",
    "contrast",
    "critique",
    "debug",
    "derive",
    "design",
    "develop",
    "diagnose",
    "estimate",
    "evaluate",
    "explain",
    "implement",
    "justify",
    "optimise",
    "optimize",
    "plan",
    "prove",
    "refactor",
    "solve",
    "summarise",
    "summarize",
    "why",
];

/// Phrases that ask for several steps.
const STEP_PHRASES: [&str; 5] = ["step by step", "step-by-step", "pros and cons", "trade-off", "first,"];

/// What code looks like. Fences first, then what common languages have and plain sentences do not.
const CODE_MARKS: [&str; 9] = ["```", "fn ", "def ", "#include", "function(", "select * ", "=> {", "();", "</"];

/// What a formula looks like.
const MATHEMATICS_MARKS: [char; 10] = ['∑', '∫', '√', '≤', '≥', '≠', '∈', '∀', '∃', '∂'];

/// A score and what it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complexity {
    /// From 0 to 100.
    pub(super) score: u8,
    /// What was found, for people: `length 40 words`, `reasoning (compare, why)`.
    pub(super) signals: Vec<String>,
}

/// How hard the text looks.
pub(super) fn score(text: &str) -> Complexity {
    let lower = text.to_lowercase();
    let found =
        [length(&lower), reasoning(&lower), questions(&lower), steps(&lower), code(&lower), mathematics(&lower)];
    let mut points = 0;
    let mut signals = Vec::new();
    for (worth, signal) in found.into_iter().flatten() {
        points += worth;
        signals.push(signal);
    }
    Complexity { score: u8::try_from(points.min(100)).unwrap_or(100), signals }
}

type Signal = Option<(usize, String)>;

fn length(text: &str) -> Signal {
    let words = text.split_whitespace().count();
    let points = (words.saturating_sub(SHORT_WORDS) / WORDS_A_POINT).min(LENGTH_POINTS_MAX);
    (points > 0).then(|| (points, format!("length {words} words")))
}

fn reasoning(text: &str) -> Signal {
    let mut found: Vec<&str> = Vec::new();
    for word in text.split(|character: char| !character.is_alphanumeric()) {
        if REASONING_WORDS.contains(&word) && !found.contains(&word) {
            found.push(word);
        }
    }
    found.truncate(REASONING_COUNT_MAX);
    (!found.is_empty()).then(|| (found.len() * REASONING_POINTS, format!("reasoning ({})", found.join(", "))))
}

fn questions(text: &str) -> Signal {
    let further = text.matches('?').count().saturating_sub(1).min(QUESTION_COUNT_MAX);
    (further > 0).then(|| (further * QUESTION_POINTS, "several questions".to_owned()))
}

fn steps(text: &str) -> Signal {
    let numbered = text.lines().filter(|line| is_numbered(line)).count() >= 2;
    let asked = STEP_PHRASES.iter().any(|phrase| text.contains(phrase));
    (numbered || asked).then(|| (STEPS_POINTS, "several steps".to_owned()))
}

/// `1. …` or `2) …`.
fn is_numbered(line: &str) -> bool {
    let rest = line.trim_start().trim_start_matches(|character: char| character.is_ascii_digit());
    rest.len() < line.trim_start().len() && (rest.starts_with(". ") || rest.starts_with(") "))
}

fn code(text: &str) -> Signal {
    CODE_MARKS.iter().any(|mark| text.contains(mark)).then(|| (CODE_POINTS, "code".to_owned()))
}

fn mathematics(text: &str) -> Signal {
    text.contains(MATHEMATICS_MARKS).then(|| (MATHEMATICS_POINTS, "mathematics".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_is_worth_what_it_says() {
        let cases: &[(&str, u8, &[&str])] = &[
            ("What is the capital of Uruguay?", 0, &[]),
            ("Why is the sky blue?", 15, &["reasoning (why)"]),
            ("Compare and contrast cats, explain and argue.", 45, &["reasoning (compare, contrast, explain)"]),
            ("One? Two? Three? Four? Five? Six?", 24, &["several questions"]),
            ("Tell me step by step", 15, &["several steps"]),
            ("1. go\n2. come", 15, &["several steps"]),
            ("What does `fn main() {}` do?", 20, &["code"]),
            ("Is x ≤ y?", 10, &["mathematics"]),
        ];
        for (text, points, signals) in cases {
            let complexity = score(text);
            assert_eq!(complexity.score, *points, "{text}: {:?}", complexity.signals);
            assert_eq!(complexity.signals, *signals, "{text}");
        }
    }

    #[test]
    fn length_counts_up_to_a_bound() {
        assert_eq!(score(&"word ".repeat(12)).score, 0);
        assert_eq!(score(&"word ".repeat(16)).score, 1);
        assert_eq!(score(&"word ".repeat(5_000)).score, 30);
    }

    #[test]
    fn the_hardest_question_scores_a_hundred() {
        let text = format!("Why? Prove? Derive? Plan? Step by step: ```x ≤ y``` {}", "word ".repeat(500));
        assert_eq!(score(&text).score, 100);
    }

    #[test]
    fn words_inside_words_do_not_count() {
        assert_eq!(score("planet whys explained").score, 0);
    }
}
