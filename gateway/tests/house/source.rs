//! Source: what a Rust file names, told without a compiler.
//!
//! For: the checks of the house. A file is cut into words, with comments and texts left out, and the paths in it are
//! followed to the crate's root, through `use` groups, `super::`, `self::` and modules inside the file.
//! May touch: only the text it is given. Promises: a word knows its line; what does not parse is passed over, never a
//! panic, since the compiler has the last say on such a file.
//! Read next: `arrows.rs`.

/// A file under some `src/`.
pub struct SourceFile {
    /// From `src/` on, with slashes: `stages/auth/jwt.rs`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// A path as written in a file, from the root of its crate.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// The line it stands on, from 1.
    pub line: usize,
    /// `["stages", "auth", "Identity"]` for `crate::stages::auth::Identity`.
    pub segments: Vec<String>,
}

/// A word of a file.
pub struct Word {
    /// The line it stands on, from 1.
    pub line: usize,
    /// Which.
    pub kind: Kind,
}

/// What a word can be. Texts, comments, numbers and lifetimes are left out.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or a keyword.
    Name(String),
    /// `::`
    Separator,
    /// Any other sign.
    Sign(char),
}

impl SourceFile {
    /// The module the file is: `["stages", "auth", "jwt"]`; the roots `lib.rs` and `main.rs` are empty.
    pub fn module(&self) -> Vec<String> {
        let mut module: Vec<String> = self.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        let last = module.last().map(String::as_str);
        if last == Some("mod") || (module.len() == 1 && matches!(last, Some("lib" | "main"))) {
            module.pop();
        }
        module
    }

    /// The room the file belongs to: `stages`, `app`, `main`.
    pub fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Every path that starts at `crate::`, `super::` or `self::`, from the crate's root. In `main.rs` the library is
    /// another crate, so there the paths that start at its name are meant.
    pub fn own_paths(&self, crate_name: &str) -> Vec<NamedPath> {
        let words = words(&self.text);
        if self.path == "main.rs" { paths_of(&words, crate_name) } else { paths_inside(&words, &self.module()) }
    }
}

/// Every path that starts at the crate `root`, such as `std`, without that first name.
pub fn paths_of(words: &[Word], root: &str) -> Vec<NamedPath> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        at = if starts_path(words, at) && is_name(words, at, root) {
            follow(words, at + 2, Vec::new(), &mut found)
        } else {
            at + 1
        };
    }
    found
}

fn paths_inside(words: &[Word], module: &[String]) -> Vec<NamedPath> {
    let mut found = Vec::new();
    let mut here = module.to_vec();
    // How deep in braces each module inside the file was opened.
    let mut opened: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match &word.kind {
            Kind::Name(name) if starts_path(words, at) => {
                let base = match name.as_str() {
                    "crate" => Some(Vec::new()),
                    "self" => Some(here.clone()),
                    "super" => Some(here.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default()),
                    _ => None,
                };
                at = base.map_or(at + 1, |base| follow(words, at + 2, base, &mut found));
                continue;
            }
            Kind::Name(name) if name == "mod" && is_sign(words, at + 2, '{') => {
                if let Some(Kind::Name(inner)) = words.get(at + 1).map(|word| &word.kind) {
                    here.push(inner.clone());
                    opened.push(depth);
                }
            }
            Kind::Sign('{') => depth += 1,
            Kind::Sign('}') => {
                depth = depth.saturating_sub(1);
                if opened.last() == Some(&depth) {
                    opened.pop();
                    here.pop();
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whether a path begins at this word: a name, `::` after it and none before it.
fn starts_path(words: &[Word], at: usize) -> bool {
    let kind = |at: usize| words.get(at).map(|word| &word.kind);
    matches!(kind(at), Some(Kind::Name(_)))
        && kind(at + 1) == Some(&Kind::Separator)
        && (at == 0 || kind(at - 1) != Some(&Kind::Separator))
}

fn is_name(words: &[Word], at: usize, name: &str) -> bool {
    matches!(words.get(at).map(|word| &word.kind), Some(Kind::Name(found)) if found == name)
}

fn is_sign(words: &[Word], at: usize, sign: char) -> bool {
    words.get(at).is_some_and(|word| word.kind == Kind::Sign(sign))
}

/// Reads on from after a `::`, notes every path that ends, and returns the place after it.
fn follow(words: &[Word], mut at: usize, mut path: Vec<String>, found: &mut Vec<NamedPath>) -> usize {
    let line = words.get(at).map_or(0, |word| word.line);
    loop {
        match words.get(at).map(|word| &word.kind) {
            Some(Kind::Name(name)) => {
                match name.as_str() {
                    "self" => {}
                    "super" => {
                        path.pop();
                    }
                    _ => path.push(name.clone()),
                }
                at += 1;
                if words.get(at).is_none_or(|word| word.kind != Kind::Separator) {
                    // `crate::some_macro!` names the crate's root by necessity and no room of it.
                    if !(path.len() == 1 && is_sign(words, at, '!')) {
                        found.push(NamedPath { line, segments: path });
                    }
                    return at;
                }
                at += 1;
            }
            Some(Kind::Sign('{')) => return follow_group(words, at + 1, &path, found),
            // `*`, or the types of `::<T>`.
            _ => {
                found.push(NamedPath { line, segments: path });
                return at;
            }
        }
    }
}

/// Reads the members of a `use` group, up to and with its closing brace.
fn follow_group(words: &[Word], mut at: usize, path: &[String], found: &mut Vec<NamedPath>) -> usize {
    while let Some(word) = words.get(at) {
        match word.kind {
            Kind::Sign('}') => return at + 1,
            Kind::Sign(',') => at += 1,
            _ => {
                at = follow(words, at, path.to_vec(), found);
                // `as other_name`, or the star of `::*`.
                while words.get(at).is_some_and(|word| !matches!(word.kind, Kind::Sign(',' | '}'))) {
                    at += 1;
                }
            }
        }
    }
    at
}

/// Cuts a file into words.
pub fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, kind) = next_word(rest, first);
        if let Some(kind) = kind {
            words.push(Word { line, kind });
        }
        let (taken, after) = rest.split_at(length);
        line += taken.matches('\n').count();
        rest = after;
    }
    words
}

/// The length in bytes of what comes first, and the word it is, unless it is to be left out.
fn next_word(rest: &str, first: char) -> (usize, Option<Kind>) {
    if let Some(length) = comment_length(rest).or_else(|| text_length(rest)) {
        return (length, None);
    }
    if first == '\'' {
        return (quote_length(rest), None);
    }
    if first.is_ascii_digit() {
        return (name_length(rest), None);
    }
    if first.is_alphabetic() || first == '_' {
        // `r#type` is the name `type`.
        let raw = if rest.starts_with("r#") { 2 } else { 0 };
        let length = raw + name_length(&rest[raw..]);
        return (length, Some(Kind::Name(rest[raw..length].to_owned())));
    }
    if rest.starts_with("::") {
        return (2, Some(Kind::Separator));
    }
    (first.len_utf8(), (!first.is_whitespace()).then_some(Kind::Sign(first)))
}

fn name_length(rest: &str) -> usize {
    rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len())
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut at = rest.strip_prefix("/*").map(|_| 2)?;
    // Block comments nest.
    let mut depth = 1;
    while depth > 0 {
        let Some(letter) = rest[at..].chars().next() else { return Some(at) };
        let step = match &rest[at..] {
            inner if inner.starts_with("/*") => {
                depth += 1;
                2
            }
            inner if inner.starts_with("*/") => {
                depth -= 1;
                2
            }
            _ => letter.len_utf8(),
        };
        at += step;
    }
    Some(at)
}

/// `"…"`, `b"…"`, `c"…"`, `r#"…"#`, `br"…"` and their like.
fn text_length(rest: &str) -> Option<usize> {
    let letters = rest.bytes().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    if !matches!(&rest[..letters], "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    if !rest[..letters].ends_with('r') {
        let body = rest[letters..].strip_prefix('"')?;
        return Some(letters + 1 + closing(body, '"')?);
    }
    let hashes = rest[letters..].bytes().take_while(|byte| *byte == b'#').count();
    let body = rest[letters + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(letters + hashes + 1 + body.find(&end)? + end.len())
}

/// The length up to and with the closing sign; a backslash takes the sign after it along.
fn closing(body: &str, sign: char) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in body.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == sign => return Some(at + letter.len_utf8()),
            _ => {}
        }
    }
    None
}

/// A character such as `'x'` and `'\''`, or a lifetime such as `'a`.
fn quote_length(rest: &str) -> usize {
    let mut letters = rest[1..].chars();
    let (Some(first), second) = (letters.next(), letters.next()) else { return 1 };
    if first == '\\' || second == Some('\'') {
        return closing(&rest[1..], '\'').map_or(1, |length| length + 1);
    }
    1 + name_length(&rest[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        file.own_paths("gateway")
            .iter()
            .map(|named| format!("{} {}", named.line, named.segments.join("::")))
            .collect()
    }

    #[test]
    fn paths_are_followed_to_the_root() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("app.rs", "use crate::config::Config;", &["1 config::Config"]),
            ("app.rs", "use crate::{a::{B, C as D}, e::*};\nuse crate::f;", &["1 a::B", "1 a::C", "1 e", "2 f"]),
            ("app.rs", "use crate::{\n    a,\n    b::{self, C},\n};", &["2 a", "3 b", "3 b::C"]),
            ("a/b.rs", "fn f() -> super::c::D { crate::e::f::<G>() }", &["1 a::c::D", "1 e::f"]),
            ("a/mod.rs", "use self::b::C; use super::d::E;", &["1 a::b::C", "1 d::E"]),
            (
                "a/b.rs",
                "mod tests {\n use super::*;\n use super::super::c;\n}\nuse super::d;",
                &["2 a::b", "3 a::c", "5 a::d"],
            ),
            ("a/b.rs", "pub(crate) fn f() { other::crate_::x(); m!(crate::g::H); crate::m!() }", &["1 g::H"]),
            ("a/b.rs", "macro_rules! m { () => { $crate::c::D } }", &["1 c::D"]),
            ("main.rs", "use gateway::app; fn main() { gateway::config::load() }", &["1 app", "1 config::load"]),
        ];
        for (path, text, expected) in cases {
            assert_eq!(paths(path, text), *expected, "{path}: {text}");
        }
    }

    #[test]
    fn comments_texts_and_characters_name_nothing() {
        let text = r##"
            //! crate::a::B
            /* crate::a /* crate::b */ crate::c */
            const A: &str = "crate::d \" crate::e"; const B: &str = r#"crate::f " crate::g"#;
            const C: char = '"'; const D: u8 = b'\''; fn e<'a>(_: &'a str) -> crate::h::I {}
        "##;
        assert_eq!(paths("x.rs", text), ["5 h::I"]);
    }

    #[test]
    fn paths_of_another_crate_are_found_in_groups_too() {
        let words = words("use std::{env, fs::File};\nfn f() { std::env::var(\"A\"); my::std::env::x(); }");
        let found: Vec<_> = paths_of(&words, "std").iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(found, ["env", "fs::File", "env::var"]);
    }

    #[test]
    fn unfinished_texts_do_not_hang_or_panic() {
        for text in ["\"open", "r#\"open", "/* open", "'", "'\\", "use crate::", "use crate::{a, ", "mod a {", "}"] {
            let _ = paths("x.rs", text);
        }
    }
}
