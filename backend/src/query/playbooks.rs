//! Playbooks: texts of the operator's own, one of which is put before a question that it fits (agentic context
//! engineering, hence `ace` in answers).
//!
//! For: Markdown files with front matter, read at start. May touch: the folder it is given, once.
//! Promises: all mistakes of all files are told at once; files and their number are bounded; the same question always gets
//! the same playbook. Read next: `mod.rs`, where it is put before the question.
//!
//! ```text
//! ---
//! id: incident-triage
//! title: Finding out what is broken
//! keywords: [outage, latency, "error rate"]
//! complexity: any
//! ---
//! The text, in Markdown.
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use common::settings::{self, At, Decoder, check_name};
use common::{choice, section};

use super::{Ace, Message, Role};
use crate::config;

/// The most playbooks of a folder.
pub const PLAYBOOKS_MAX: usize = 64;
/// The largest playbook, in bytes.
pub const PLAYBOOK_BYTES_MAX: u64 = 32 * 1024;
/// The most keywords of one.
const KEYWORDS_MAX: usize = 32;
/// The most words of a keyword.
const KEYWORD_WORDS_MAX: usize = 5;
/// What the front matter stands between.
const FENCE: &str = "---";
/// How a playbook's file ends.
const EXTENSION: &str = "md";

choice! {
    /// The questions that a playbook is for.
    enum Wanted {
        /// Those that go to the small model.
        Simple = "simple",
        /// Those that go to the large model.
        Complex = "complex",
        /// Both.
        Any = "any",
    }
}

section! {
    /// What a playbook says of itself.
    struct FrontMatter {
        /// Its name in answers.
        id: At<String> => "name the playbook, such as incident-triage",
        /// Its heading.
        title: At<String> => "say what it is about, in a few words",
        /// Words and phrases of questions that it is for.
        keywords: Vec<At<String>> => "list words of questions that it is for",
        /// The questions that it is for: simple, complex or any.
        complexity: Wanted = "any",
    }
}

/// A playbook, ready to be matched.
#[derive(Debug)]
struct Playbook {
    id: String,
    /// Each keyword as its words, in lower case.
    keywords: Vec<Vec<String>>,
    wanted: Wanted,
    /// Title and text, as they are put before a question.
    text: String,
}

/// All playbooks, by their ids.
#[derive(Debug)]
pub(super) struct Playbooks {
    playbooks: Vec<Playbook>,
    score_min: u32,
}

/// What is wrong with the playbooks, all of it, one mistake a line.
#[derive(Debug)]
pub struct PlaybookErrors {
    mistakes: Vec<String>,
}

impl fmt::Display for PlaybookErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistakes.join("\n"))
    }
}

impl std::error::Error for PlaybookErrors {}

impl Playbooks {
    /// Reads the folder; without one there are none.
    ///
    /// # Errors
    /// Every mistake in every file.
    pub(super) fn load(settings: &config::Playbooks) -> Result<Self, PlaybookErrors> {
        let mut mistakes = Vec::new();
        let files = settings.path.as_deref().map_or_else(Vec::new, |folder| files(folder, &mut mistakes));
        let mut playbooks: Vec<Playbook> = Vec::new();
        for file in files {
            match read(&file).and_then(|text| parse(&file.display().to_string(), &text)) {
                Ok(playbook) => playbooks.push(playbook),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        mistakes.extend(twice(&playbooks));
        if !mistakes.is_empty() {
            return Err(PlaybookErrors { mistakes });
        }
        playbooks.sort_by(|one, other| one.id.cmp(&other.id));
        for playbook in &playbooks {
            let (keywords, complexity) = (playbook.keywords.len(), playbook.wanted.word());
            tracing::info!(playbook = playbook.id, keywords, complexity, "a playbook was read");
        }
        Ok(Self { playbooks, score_min: settings.score_min })
    }

    /// The playbook that fits the question best, as a message to put before it; of equals, the first by its id.
    pub(super) fn fit(&self, question: &str, is_complex: bool) -> Option<(Message, Ace)> {
        if self.playbooks.is_empty() {
            return None;
        }
        let words: Vec<String> = words(question).collect();
        let mut best: Option<(u32, &Playbook)> = None;
        for playbook in self.playbooks.iter().filter(|playbook| playbook.wants(is_complex)) {
            let score = playbook.score(&words);
            if score >= self.score_min && best.is_none_or(|(most, _)| score > most) {
                best = Some((score, playbook));
            }
        }
        let (score, playbook) = best?;
        let ace = Ace { playbook: playbook.id.clone(), score, added_chars: playbook.text.chars().count() };
        Some((Message { role: Role::System, text: playbook.text.clone() }, ace))
    }
}

impl Playbook {
    fn wants(&self, is_complex: bool) -> bool {
        match self.wanted {
            Wanted::Any => true,
            Wanted::Simple => !is_complex,
            Wanted::Complex => is_complex,
        }
    }

    /// Each keyword that the question holds counts as many points as it has words, once.
    fn score(&self, words: &[String]) -> u32 {
        let holds = |keyword: &&Vec<String>| words.windows(keyword.len()).any(|window| window == keyword.as_slice());
        let points: usize = self.keywords.iter().filter(holds).map(Vec::len).sum();
        u32::try_from(points).unwrap_or(u32::MAX)
    }
}

/// Words in lower case, without what stands between them.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Mistakes about ids that stand in two files.
fn twice(playbooks: &[Playbook]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut mistakes = Vec::new();
    for playbook in playbooks {
        if !seen.insert(playbook.id.as_str()) {
            mistakes.push(format!("{:?} names two playbooks", playbook.id));
        }
    }
    mistakes
}

/// The playbooks' files, in the order of their names.
fn files(folder: &Path, mistakes: &mut Vec<String>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            mistakes.push(format!("{}: the folder of playbooks cannot be read: {error}", folder.display()));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.path().extension().is_some_and(|extension| extension == EXTENSION) => {
                files.push(entry.path());
            }
            Ok(_) => {}
            Err(error) => mistakes.push(format!("{}: cannot be read to its end: {error}", folder.display())),
        }
        if files.len() > PLAYBOOKS_MAX {
            mistakes.push(format!("{}: holds more than {PLAYBOOKS_MAX} playbooks", folder.display()));
            return Vec::new();
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("{}: cannot be read: {error}", file.display());
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened.take(PLAYBOOK_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > PLAYBOOK_BYTES_MAX {
        return Err(format!("{}: is larger than {PLAYBOOK_BYTES_MAX} bytes", file.display()));
    }
    Ok(text)
}

/// Reads one playbook. The first fence becomes an empty line, so that the lines of mistakes are those of the file.
fn parse(file: &str, text: &str) -> Result<Playbook, String> {
    let missing = || format!("{file}:1:1: must begin with front matter between two lines of {FENCE}");
    let text = text.replace("\r\n", "\n");
    let rest = text.strip_prefix(FENCE).filter(|rest| rest.starts_with('\n')).ok_or_else(missing)?;
    let (matter, body) = rest.split_once("\n---\n").ok_or_else(missing)?;
    let playbook = settings::load(file, matter, HashMap::new(), |matter: FrontMatter, decoder: &mut Decoder| {
        check(matter, body.trim(), decoder)
    });
    playbook.map_err(|report| report.to_string())
}

#[expect(clippy::unnecessary_wraps, reason = "`settings::load` takes checks that may end without a value")]
fn check(matter: FrontMatter, body: &str, decoder: &mut Decoder) -> Option<Playbook> {
    if let Err(message) = check_name(&matter.id.value) {
        decoder.mistake_at(&matter.id, message);
    }
    if matter.title.value.trim().is_empty() {
        decoder.mistake_at(&matter.title, "must not be empty");
    }
    if body.is_empty() {
        decoder.mistake_at(&matter.id, "the playbook has no text behind its front matter");
    }
    let too_many = matter.keywords.len() > KEYWORDS_MAX;
    if matter.keywords.is_empty() || too_many {
        decoder.mistake_at(&matter.id, format!("the playbook must have 1 to {KEYWORDS_MAX} keywords"));
    }
    let mut keywords = Vec::new();
    for keyword in matter.keywords {
        let words: Vec<String> = words(&keyword.value).collect();
        if words.is_empty() || words.len() > KEYWORD_WORDS_MAX {
            decoder.mistake_at(&keyword, format!("a keyword has 1 to {KEYWORD_WORDS_MAX} words"));
        } else if keywords.contains(&words) {
            decoder.mistake_at(&keyword, format!("{:?} stands here twice", keyword.value));
        } else {
            keywords.push(words);
        }
    }
    let text = format!("# {}\n\n{body}", matter.title.value.trim());
    Some(Playbook { id: matter.id.value, keywords, wanted: matter.complexity, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playbook(id: &str, keywords: &str, complexity: &str) -> String {
        format!(
            "---\nid: {id}\ntitle: About {id}\nkeywords: [{keywords}]\ncomplexity: {complexity}\n---\n\nText of {id}.\n"
        )
    }

    fn load(files: &[(&str, &str)]) -> Result<Playbooks, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file in it");
        }
        let settings = config::Playbooks { path: Some(folder.path().to_owned()), score_min: 2 };
        Playbooks::load(&settings).map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_best_one_is_added_and_says_how_well_it_fits() {
        let playbooks = load(&[
            ("b.md", &playbook("beta", "river, sea, \"error rate\"", "any")),
            ("a.md", &playbook("alpha", "river, sea", "any")),
            ("c.md", &playbook("gamma", "river, sea, water", "complex")),
            ("notes.txt", "not a playbook"),
        ])
        .expect("three sound playbooks");
        let cases = [
            ("Nothing of the kind?", false, None),
            ("One RIVER?", false, None),
            ("The river and the sea?", false, Some(("alpha", 2))),
            ("river river river", false, None),
            ("Is the error-rate high?", false, Some(("beta", 2))),
            ("The rate of the error?", false, None),
            ("The error rate of the river?", false, Some(("beta", 3))),
            ("river, sea, water", true, Some(("gamma", 3))),
            ("river, sea, water", false, Some(("alpha", 2))),
            ("rivers and seas", true, None),
        ];
        for (question, is_complex, expected) in cases {
            let found = playbooks.fit(question, is_complex);
            let told = found.as_ref().map(|(_, ace)| (ace.playbook.as_str(), ace.score));
            assert_eq!(told, expected, "{question}");
        }
        let (message, ace) = playbooks.fit("river and sea", false).expect("it fits");
        assert_eq!((message.role, message.text.as_str()), (Role::System, "# About alpha\n\nText of alpha."));
        assert_eq!(ace.added_chars, message.text.chars().count());
    }

    #[test]
    fn all_mistakes_of_all_files_are_told_at_once() {
        let long = format!("{}{}", playbook("long", "long", "any"), "x".repeat(40_000));
        let report = load(&[
            ("a.md", "# No front matter"),
            ("b.md", "---\nid: b b\ntitle: B\nkeywords: [\"...\", one, ONE]\n---\nText.\n"),
            ("c.md", "---\nid: c\nkeyword: [x]\n---\n\n"),
            ("d.md", &playbook("same", "one", "any")),
            ("e.md", &playbook("same", "two", "any")),
            ("f.md", &playbook("f", "one", "medium")),
            ("g.md", &long),
        ])
        .expect_err("mistakes everywhere");
        for part in [
            "a.md:1:1: must begin with front matter",
            "b.md:2:5: id: \"b b\" cannot be a name",
            "b.md:4:12: keywords[0]: a keyword has 1 to 5 words",
            "keywords[2]: \"ONE\" stands here twice",
            "title: is missing; say what it is about",
            "unknown key \"keyword\"; did you mean \"keywords\"?",
            "\"same\" names two playbooks",
            "f.md:5:13: complexity: \"medium\" is not known",
            "g.md: is larger than 32768 bytes",
        ] {
            assert!(report.contains(part), "{part} is not in\n{report}");
        }
    }

    #[test]
    fn the_shipped_ones_are_sound() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/playbooks");
        let playbooks = Playbooks::load(&config::Playbooks { path: Some(path), score_min: 2 });
        let playbooks = playbooks.expect("they are shipped as examples");
        assert!(playbooks.playbooks.len() >= 2);
        let question = "Our p99 latency doubled after the deploy: is it the error rate of the upstream?";
        let (_, ace) = playbooks.fit(question, false).expect("one is about that");
        assert_eq!(ace.playbook, "incident-triage");
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let settings = config::Playbooks { path: Some("/nowhere/at/all".into()), score_min: 2 };
        let errors = Playbooks::load(&settings).expect_err("it is not there");
        assert!(errors.to_string().contains("/nowhere/at/all: the folder of playbooks cannot be read"), "{errors}");
        let none = Playbooks::load(&config::Playbooks { path: None, score_min: 2 }).expect("none is wanted");
        assert!(none.fit("river and sea", false).is_none());
    }
}
