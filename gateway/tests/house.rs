//! House: the tidy test. It reads the sources and the pages of the whole workspace and says what is out of place.
//!
//! For: import arrows, door signs, where Pingora and the environment may show, generated pages that are fresh, links
//! that lead somewhere, tests of promises that are there, pages whose configuration is accepted, and what ships for
//! containers. May touch: files of the repository, and the built programs for what they print. Promises: a report names
//! the file, the line and the rule; each check is itself tested on made-up text, so that a check that finds nothing has
//! looked.
//! Read next: `house/arrows.rs`.

#![allow(unreachable_pub, clippy::expect_used, clippy::panic, reason = "a test says what it expects by failing")]

#[path = "house/arrows.rs"]
mod arrows;
#[path = "house/deploy.rs"]
mod deploy;
#[path = "house/manifests.rs"]
mod manifests;
#[path = "house/pages.rs"]
mod pages;
#[path = "house/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use source::{Kind, SourceFile};

/// Where Pingora's types may show; everything else takes plain headers and can be tested without a socket.
const PINGORA_PLACES: [&str; 8] = [
    "listen/",
    "proxy.rs",
    "proxy/",
    "app.rs",
    "upstream/peer.rs",
    "upstream/dial.rs",
    "upstream/tunnel.rs",
    "upstream/heartbeat.rs",
];
/// Where the environment may be read; everything else is handed what it needs.
const ENVIRONMENT_PLACES: [&str; 2] = ["base/", "config/"];
/// The lines within which a door sign has to begin.
const SIGN_LINE_MAX: usize = 5;
/// The least a door sign can say, in characters.
const SIGN_CHARS_MIN: usize = 30;
/// What pages say to make a throw-away certificate, and to check the configuration that they show.
const CERTIFICATE: &[&str] = &["certificate", "--name", "localhost", "--out", "tls"];
const CHECK: &[&str] = &["check", "-c", "gateway.yaml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// Every file with this ending under a folder of the repository, by its path from there, in order.
fn files(folder: &str, ending: &str) -> Vec<SourceFile> {
    let top = root().join(folder);
    let mut found = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let relative = path.strip_prefix(&top).expect("found below it").to_string_lossy().into_owned();
                found.push(SourceFile { path: relative, text: read(&path) });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "there is no .{ending} under {folder}");
    found
}

fn assert_none(reports: &[String], rule: &str) {
    assert!(reports.is_empty(), "{rule}\n  {}\n", reports.join("\n  "));
}

/// What a program of this build prints.
fn printed_by(program: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_gateway")).with_file_name(program);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` (make test does) first", path.display());
    let output = Command::new(&path).args(arguments).output().expect("a program that starts");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn within(places: &[&str], path: &str) -> bool {
    places.iter().any(|place| if place.ends_with('/') { path.starts_with(place) } else { path == *place })
}

/// Files of one crate whose door sign is missing or says nothing.
fn unsigned(folder: &str, files: &[SourceFile]) -> Vec<String> {
    let is_signed = |file: &SourceFile| {
        let begins = file.text.lines().take(SIGN_LINE_MAX).any(|line| line.starts_with("//!"));
        let signs = file.text.lines().filter_map(|line| line.strip_prefix("//!"));
        begins && signs.map(|line| line.trim().chars().count()).sum::<usize>() >= SIGN_CHARS_MIN
    };
    files.iter().filter(|file| !is_signed(file)).map(|file| format!("{folder}/{}:1", file.path)).collect()
}

/// Lines that name Pingora where it may not show. `pingora_limits` is arithmetic and knows no connection.
fn stray_pingora(files: &[SourceFile]) -> Vec<String> {
    let mut reports = Vec::new();
    for file in files.iter().filter(|file| !within(&PINGORA_PLACES, &file.path)) {
        for word in source::words(&file.text) {
            if let Kind::Name(name) = &word.kind
                && (name == "pingora" || name.starts_with("pingora_"))
                && name != "pingora_limits"
            {
                reports.push(format!("gateway/src/{}:{}: `{name}`", file.path, word.line));
            }
        }
    }
    reports
}

/// Lines that read the environment where they may not.
fn stray_environment(folder: &str, files: &[SourceFile]) -> Vec<String> {
    let mut reports = Vec::new();
    for file in files.iter().filter(|file| !within(&ENVIRONMENT_PLACES, &file.path)) {
        for path in source::paths_of(&source::words(&file.text), "std") {
            if path.segments.first().is_some_and(|first| first == "env") {
                reports.push(format!("{folder}/{}:{}: `std::{}`", file.path, path.line, path.segments.join("::")));
            }
        }
    }
    reports
}

#[test]
fn files_import_only_along_the_arrows() {
    let mut reports = arrows::broken(&arrows::GATEWAY, &files("gateway/src", "rs"));
    reports.extend(arrows::broken(&arrows::BACKEND, &files("backend/src", "rs")));
    assert_none(&reports, "These imports go against an arrow of docs/ARCHITECTURE.md:");
}

#[test]
fn every_file_has_a_door_sign() {
    let folders = ["gateway/src", "backend/src", "common/src", "common/testkit/src", "benches/src"];
    let reports: Vec<_> = folders.iter().flat_map(|folder| unsigned(folder, &files(folder, "rs"))).collect();
    assert_none(&reports, "These files need a `//!` at their top: what for, what it may touch, what it promises:");
}

#[test]
fn pingora_shows_only_at_the_edges() {
    let rule = format!("Pingora's types belong in gateway/src/{{{}}}; found in:", PINGORA_PLACES.join(", "));
    assert_none(&stray_pingora(&files("gateway/src", "rs")), &rule);
}

#[test]
fn the_environment_is_read_only_on_the_ground_floor() {
    let mut reports = stray_environment("gateway/src", &files("gateway/src", "rs"));
    reports.extend(stray_environment("backend/src", &files("backend/src", "rs")));
    assert_none(&reports, "The environment is read in base/, config/ and common only; found in:");
}

#[test]
fn generated_pages_are_fresh() {
    let pages = [
        ("docs/errors.md", common::code::manual()),
        ("docs/configuration.md", printed_by("gateway", &["manual"])),
        ("docs/gateway.schema.json", printed_by("gateway", &["schema"])),
        ("docs/backend-configuration.md", printed_by("backend", &["manual"])),
    ];
    let stale = |(page, wanted): &(&str, String)| {
        let found = fs::read_to_string(root().join(page)).unwrap_or_default();
        pages::first_difference(&found, wanted).map(|line| format!("{page}:{line}"))
    };
    let reports: Vec<_> = pages.iter().filter_map(stale).collect();
    assert_none(&reports, "These pages differ from what the code says (run `make docs`):");
    assert_eq!(printed_by("gateway", &["errors"]), common::code::manual());
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut reports = Vec::new();
    let mut pages = files("docs", "md");
    for page in &mut pages {
        page.path.insert_str(0, "docs/");
    }
    for name in ["README.md", "CHANGELOG.md", "SECURITY.md", "benches/README.md", "k8s/README.md"] {
        pages.push(SourceFile { path: name.to_owned(), text: read(&root().join(name)) });
    }
    for page in &pages {
        let folder = root().join(&page.path).parent().expect("a page stands in a folder").to_owned();
        reports.extend(pages::dead_links(&page.path, &page.text, |target| folder.join(target).exists()));
    }
    assert_none(&reports, "These links lead nowhere:");
}

#[test]
fn the_journey_names_the_stages_in_order_and_only_codes_that_exist() {
    let page = read(&root().join("docs/journey.md"));
    let known: Vec<_> = common::code::Code::ALL.iter().map(|code| code.name()).collect();
    assert_none(
        &pages::unknown_codes("docs/journey.md", &page, &known),
        "These codes are not in common/src/code.rs:",
    );
    let exists = |stage: &&str| root().join("gateway/src/stages").join(stage).exists();
    let stages: Vec<_> = arrows::STAGES.into_iter().filter(exists).collect();
    assert_eq!(pages::headings_in_ticks(&page), stages, "the stages, by the headings of docs/journey.md");
}

#[test]
fn every_test_that_holds_a_promise_is_there() {
    let page = read(&root().join("docs/testing.md"));
    let named = pages::named_tests(&page, "## Promises, and the tests that hold them");
    assert!(named.len() > 20, "docs/testing.md names {} tests", named.len());
    let is_there = |file: &str, test: &str| {
        fs::read_to_string(root().join(file)).is_ok_and(|source| source.contains(&format!("fn {test}(")))
    };
    let gone =
        named.iter().filter(|(file, test)| !is_there(file, test)).map(|(file, test)| format!("{file}: {test}"));
    assert_none(&gone.collect::<Vec<_>>(), "docs/testing.md names tests that are not there:");
}

#[test]
fn the_configuration_in_the_readme_is_accepted() {
    let yaml = pages::first_block(&read(&root().join("README.md")), "yaml").expect("README.md shows a configuration");
    let lines = yaml.lines().count();
    assert!(lines <= 20, "README.md promises twenty lines, there are {lines}");
    // The two commands are those of the README.
    assert_accepted(&yaml, &[CERTIFICATE, CHECK]);
}

#[test]
fn the_configuration_for_those_who_come_from_elsewhere_is_accepted() {
    let yaml = pages::first_block(&read(&root().join("docs/coming-from.md")), "yaml").expect("the page shows one");
    // The three commands are those of the page.
    assert_accepted(&yaml, &[CERTIFICATE, CHECK, &["test", "-c", "gateway.yaml"]]);
}

/// Runs these commands, one after the other, in a folder with this configuration.
fn assert_accepted(yaml: &str, commands: &[&[&str]]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("gateway.yaml"), yaml).expect("a file in it");
    for arguments in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(*arguments)
            .current_dir(folder.path())
            .output()
            .expect("a program that starts");
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "gateway {arguments:?}: {}", String::from_utf8_lossy(&told));
    }
}

/// The checks, checked.
mod checks {
    use super::*;

    fn made_up(path: &str, text: &str) -> [SourceFile; 1] {
        [SourceFile { path: path.to_owned(), text: text.to_owned() }]
    }

    #[test]
    fn a_missing_or_empty_sign_is_found() {
        let signed =
            made_up("a.rs", "#![forbid(unsafe_code)]\n//! A: what this file is for and what it may touch.\n");
        assert_eq!(unsigned("x/src", &signed), [""; 0]);
        for text in
            ["", "use a::b;\n", "//! stub\n", "/// A: the sign of something inside, not of the file.\nfn f() {}\n"]
        {
            assert_eq!(unsigned("x/src", &made_up("a.rs", text)), ["x/src/a.rs:1"], "{text:?}");
        }
    }

    #[test]
    fn pingora_out_of_place_is_found() {
        let text = "use bytes::Bytes;\nuse pingora_http::RequestHeader;\nfn f() { pingora::x() }";
        let expected = ["gateway/src/route/table.rs:2: `pingora_http`", "gateway/src/route/table.rs:3: `pingora`"];
        assert_eq!(stray_pingora(&made_up("route/table.rs", text)), expected);
        for place in ["listen/tls.rs", "proxy.rs", "app.rs", "upstream/peer.rs"] {
            assert_eq!(stray_pingora(&made_up(place, text)), [""; 0], "{place}");
        }
        let harmless = "// pingora::x\nuse pingora_limits::rate::Rate;\nconst FILTER: &str = \"pingora_core=off\";";
        assert_eq!(stray_pingora(&made_up("upstream/pool.rs", harmless)), [""; 0]);
    }

    #[test]
    fn a_look_at_the_environment_is_found() {
        let text = "use std::{env, fs};\nfn f() { std::env::var(\"A\"); env!(\"B\") }";
        let expected = ["x/src/query/mod.rs:1: `std::env`", "x/src/query/mod.rs:2: `std::env::var`"];
        assert_eq!(stray_environment("x/src", &made_up("query/mod.rs", text)), expected);
        assert_eq!(stray_environment("x/src", &made_up("config/mod.rs", text)), [""; 0]);
        assert_eq!(stray_environment("x/src", &made_up("a.rs", "fn f() { std::fs::read(env!(\"B\")) }")), [""; 0]);
    }
}
