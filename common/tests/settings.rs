//! The promises of `common::settings`, seen as a program that uses it sees them.

use std::collections::HashMap;

use common::settings::{At, Decode as _, Millis, Named, json_schema, load, markdown};
use common::{choice, section};

choice! {
    /// Whose turn it is.
    enum Balance {
        /// One after the other.
        RoundRobin = "round_robin",
        /// The least busy.
        LeastRequests = "least_requests",
    }
}

section! {
    /// A pool of servers.
    struct Pool {
        /// Whom to ask.
        targets: Vec<String> => "list at least one host:port",
        /// How the next one is chosen.
        balance: Balance = "round_robin",
        /// How long to wait.
        r#for: Millis = "10s",
        /// A port.
        port: Option<u16> = "null",
    }
}

section! {
    /// The whole file.
    struct File {
        /// The layout's version.
        version: At<u32> => "write `version: 1`",
        /// The pools.
        pools: Named<Pool> = "{}",
    }
}

fn read(text: &str) -> Result<File, String> {
    let variables = HashMap::from([("PORT".to_owned(), "8080".to_owned())]);
    load("f.yaml", text, variables, |file: File, _| Some(file)).map_err(|report| report.to_string())
}

#[test]
fn defaults_and_variables_are_filled_in() {
    let file = read("version: 1\npools:\n  api: { targets: [a], port: \"${PORT:-1}\" }\n  web: { targets: [], port: \"${NONE:-}\", for: 5m }\n")
        .expect("a sound file");
    let [(api, first), (_, second)] = &file.pools.items[..] else { panic!("two pools") };
    assert_eq!((file.version.value, api.value.as_str(), api.position.line), (1, "api", 3));
    assert_eq!((first.port, first.balance, first.r#for.duration().as_secs()), (Some(8080), Balance::RoundRobin, 10));
    assert_eq!((second.port, second.r#for.duration().as_secs(), second.targets.len()), (None, 300, 0));
    assert_eq!(first.balance.word(), "round_robin");
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let text = "\
versoin: 1
pools:
  api:
    targets: [a, 7]
    balance: round_robbin
    for: 10
    for: 11s
  web: { port: 70000 }
";
    assert_eq!(
        read(text).expect_err("six mistakes and more"),
        "\
f.yaml:1:1: version: is missing; write `version: 1`
f.yaml:1:1: unknown key \"versoin\"; did you mean \"version\"?
f.yaml:4:18: pools.api.targets[1]: expected text, found a whole number
f.yaml:5:14: pools.api.balance: \"round_robbin\" is not known; did you mean \"round_robin\"?
f.yaml:6:10: pools.api.for: expected a duration with its unit, such as 250ms, 10s, 5m, 1h or 7d (366d at most), found a whole number
f.yaml:7:5: \"for\" is set twice; the first is on line 6
f.yaml:8:8: pools.web.targets: is missing; list at least one host:port
f.yaml:8:16: pools.web.port: 70000 is out of range: 0 to 65535"
    );
}

#[test]
fn what_is_not_yaml_is_one_mistake_with_its_place() {
    let report = read("version: 1\npools: [\n").expect_err("not YAML");
    assert!(report.starts_with("f.yaml:"), "{report}");
    assert!(!report.contains('\n'), "{report}");
}

#[test]
fn the_manual_names_every_key() {
    let manual = markdown("Settings", "All of them.", &File::shape());
    for words in
        ["## The file", "## `pools.<name>`", "| `for` | duration | `10s` | How long to wait. |", "**required**"]
    {
        assert!(manual.contains(words), "{words} is not in\n{manual}");
    }
}

#[test]
fn the_schema_refuses_nothing_that_is_read() {
    let schema = json_schema("Settings", &File::shape());
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["required"][0], "version");
    assert_eq!(schema["additionalProperties"], false);
    let pool = &schema["properties"]["pools"]["additionalProperties"];
    assert_eq!(pool["required"].as_array().map(Vec::len), Some(1), "what has a default may be left out: {pool}");
    let keys = &pool["properties"];
    assert_eq!(keys["balance"]["anyOf"][0]["enum"][1], "least_requests");
    assert_eq!(keys["balance"]["anyOf"][1]["pattern"], r"\$\{.+\}", "a variable may stand for a word");
    assert_eq!(keys["balance"]["description"], "How the next one is chosen.");
    assert_eq!(keys["for"]["type"], "string");
    assert_eq!(keys["port"]["anyOf"][1]["type"], "null", "what may be left out may be nothing: {keys}");
}

#[test]
fn checks_between_keys_run_beside_mistakes_of_form() {
    let text = "version: 2\npools:\n  api: { targets: 7 }\n  web: { targets: [], for: x }\n";
    let report = load("f.yaml", text, HashMap::new(), |file: File, decoder| {
        decoder.mistake_at(&file.version, "only version 1 is known");
        assert_eq!(file.pools.names().collect::<Vec<_>>(), ["api", "web"], "a broken section keeps its name");
        Some(file)
    })
    .expect_err("three mistakes");
    let places: Vec<_> =
        report.mistakes().iter().map(|mistake| (mistake.position.line, mistake.path.as_str())).collect();
    assert_eq!(places, [(1, "version"), (3, "pools.api.targets"), (4, "pools.web.for")]);
}
