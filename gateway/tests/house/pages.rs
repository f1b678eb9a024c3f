//! Pages: what the Markdown of the repository claims, and whether it holds.
//!
//! For: freshness, links, codes and examples. May touch: only the text it is given. Promises: a report names the page
//! and the line. Read next: `../house.rs`.

use std::path::Path;

/// The first line, from 1, in which two pages differ.
pub fn first_difference(found: &str, wanted: &str) -> Option<usize> {
    if found == wanted {
        return None;
    }
    let same = found.split('\n').zip(wanted.split('\n')).take_while(|(one, other)| one == other).count();
    Some(same + 1)
}

/// Links to files that are not there. Links to other sites and within the page are passed over.
pub fn dead_links(page: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut reports = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !exists(target) {
                reports.push(format!("{page}:{}: {target}", index + 1));
            }
        }
    }
    reports
}

/// Words in backticks after a status, such as 401 `token_missing`, `token_expired`, that are not among the known codes.
pub fn unknown_codes(page: &str, text: &str, known: &[&str]) -> Vec<String> {
    let mut reports = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // Odd parts stand between backticks.
        let parts: Vec<_> = line.split('`').collect();
        let mut is_code = false;
        for pair in parts.chunks_exact(2) {
            let (before, word) = (pair[0], pair[1]);
            let goes_on = is_code && matches!(before, ", " | " or " | " and ");
            is_code = goes_on || before.trim_end().rsplit(' ').next().is_some_and(is_error_status);
            if is_code && !known.contains(&word) {
                reports.push(format!("{page}:{}: `{word}`", index + 1));
            }
        }
    }
    reports
}

fn is_error_status(word: &str) -> bool {
    word.len() == 3 && word.starts_with(['4', '5']) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The tests that the tables below this heading name in their last column, each with the file that was named before it:
/// `` `tests/a.rs`: `one`, `two` ``.
pub fn named_tests<'t>(text: &'t str, heading: &str) -> Vec<(&'t str, &'t str)> {
    let below = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = below.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|'));
    let mut found = Vec::new();
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let mut file = "";
        // Odd parts stand between backticks.
        for word in cell.split('`').skip(1).step_by(2) {
            if Path::new(word).extension().is_some_and(|extension| extension == "rs") {
                file = word;
            } else {
                found.push((file, word));
            }
        }
    }
    found
}

/// The names in backticks of the headings, in order: `## 6 · Who is it (`auth`)`.
pub fn headings_in_ticks(text: &str) -> Vec<&str> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.filter_map(|line| line.split('`').nth(1)).collect()
}

/// What the first fenced block of this language holds.
pub fn first_block(text: &str, language: &str) -> Option<String> {
    let fence = format!("```{language}");
    let mut lines = text.lines().skip_while(|line| *line != fence);
    lines.next()?;
    let mut block = String::new();
    for line in lines.take_while(|line| *line != "```") {
        block.push_str(line);
        block.push('\n');
    }
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_page_is_found_by_its_line() {
        let cases = [
            ("a\nb\n", "a\nb\n", None),
            ("a\nb\n", "a\nc\n", Some(2)),
            ("", "a\n", Some(1)),
            ("a\n", "a\nb\n", Some(2)),
        ];
        for (found, wanted, line) in cases {
            assert_eq!(first_difference(found, wanted), line, "{found:?} {wanted:?}");
        }
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](a.md) [b](b.md#part)\n[c](https://c.test/) [d](#d) [e](gone.md)";
        assert_eq!(dead_links("p.md", text, |target| target != "gone.md"), ["p.md:2: gone.md"]);
    }

    #[test]
    fn an_unknown_code_is_found() {
        let text = "401 `token_missing`, 403 `nonsense`; the key `auth` is no code\n| 503 `also_nonsense` |";
        assert_eq!(
            unknown_codes("p.md", text, &["token_missing"]),
            ["p.md:1: `nonsense`", "p.md:2: `also_nonsense`"]
        );
    }

    #[test]
    fn tests_are_found_by_the_file_before_them() {
        let text = "| `x` |\n## T\n| `a` | `f.rs`: `one`, `two`; `g.rs`: `three` |\n`no`\n## U\n| `h.rs`: `four` |";
        assert_eq!(named_tests(text, "## T"), [("f.rs", "one"), ("f.rs", "two"), ("g.rs", "three")]);
        assert!(named_tests(text, "## V").is_empty());
    }

    #[test]
    fn headings_and_blocks_are_read() {
        let text = "# Top\n## 1 · First (`a`)\ntext `b`\n```yaml\nx: 1\n# `c`\n```\n```yaml\ny: 2\n```\n";
        assert_eq!(headings_in_ticks("# Top\n## 1 · First (`a`)\ntext `b`\n### `c`\n"), ["a", "c"]);
        assert_eq!(first_block(text, "yaml").as_deref(), Some("x: 1\n# `c`\n"));
        assert_eq!(first_block(text, "json"), None);
    }
}
