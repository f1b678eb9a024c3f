//! Tests of the configuration: what is right loads, and every mistake is told with its place.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use common::settings;

use super::{Config, Environment, ModelSize, manual};

fn read(text: &str) -> Result<Config, String> {
    settings::load("backend.yaml", text, HashMap::new(), super::check::check).map_err(|report| report.to_string())
}

#[test]
fn one_line_is_a_whole_configuration() {
    let config = read("version: 1\n").expect("defaults suffice in development");
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.server.api.to_string(), "127.0.0.1:8000");
    assert_eq!(config.database.path, Path::new(".run/capibara6.db"));
    assert_eq!(config.auth.access_token_ttl, Duration::from_mins(30));
    assert!(config.models.is_empty() && config.introspection.secret.is_none());
}

#[test]
fn a_model_gets_its_address_and_name() {
    let config = read(
        "version: 1\nmodels:\n  - { id: capibara6-20b, size: small, url: \"http://127.0.0.1:9000/v1/\" }\n  \
         - { id: big, size: large, url: \"https://models.example/openai\", model: org/big-120b, timeout: 90s }\n",
    )
    .expect("two sound models");
    let [small, large] = &config.models[..] else { panic!("two models") };
    assert_eq!(small.completions_url.as_str(), "http://127.0.0.1:9000/v1/chat/completions");
    assert_eq!((small.upstream_name.as_str(), small.size), ("capibara6-20b", ModelSize::Small));
    assert_eq!(large.completions_url.as_str(), "https://models.example/openai/chat/completions");
    assert_eq!((large.upstream_name.as_str(), large.timeout.as_secs()), ("org/big-120b", 90));
}

#[test]
fn every_mistake_is_told_at_once() {
    let report = read(
        "\
version: 2
server: { api: localhost, max_connections: 0 }
database: { url: \"postgres://db\" }
auth:
  acces_token_ttl: 5m
  hashing: { concurrent_max: 100 }
models:
  - { id: a b, size: small, url: \"http://u:p@h/v1\" }
",
    )
    .expect_err("many mistakes");
    for part in [
        "backend.yaml:2:16: server.api: \"localhost\" is not an address to listen on",
        "unknown key \"acces_token_ttl\"; did you mean \"access_token_ttl\"?",
        "models[0].url: is not an http or https address without credentials",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    assert!(!report.contains("u:p"), "credentials must not be repeated:\n{report}");
}

#[test]
fn checks_after_decoding_carry_their_places() {
    let report = read(
        "version: 2\nserver: { max_connections: 0 }\ndatabase: { url: \"postgres://db\" }\n\
         log: { filter: \"no/such=filter\" }\n\
         auth: { access_token_ttl: 5ms, hashing: { concurrent_max: 100 } }\n\
         models: [{ id: m, size: small, url: \"http://h/v1\" }, { id: m, size: large, url: \"http://h/v1\", key: \"env:CAPIBARA6_NOT_SET\" }]\n",
    )
    .expect_err("seven mistakes and more");
    for part in [
        "backend.yaml:1:10: version: 2 is not known; write 1",
        "backend.yaml:2:28: server.max_connections: 0 is out of range: 1 to 1000000",
        "backend.yaml:3:18: database.url: is not a SQLite file",
        "log.filter: log filter \"no/such=filter\" is not valid",
        "auth.access_token_ttl: 5ms is shorter than 1s",
        "auth.hashing.concurrent_max: 100 is out of range: 1 to 64",
        "models[1].id: \"m\" names two models",
        "models[1].key: environment variable CAPIBARA6_NOT_SET is not set",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
}

#[test]
fn production_says_all_it_needs() {
    let report = read("version: 1\nenvironment: production\n").expect_err("nothing is set");
    for needed in ["auth.signing_keys", "introspection.secret", "entry in models"] {
        assert!(report.contains(needed), "{needed} is not in\n{report}");
    }
}

#[test]
fn the_shipped_file_loads_and_names_every_section() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/backend.yaml");
    let text = std::fs::read_to_string(&path).expect("conf/backend.yaml is there");
    let config = read(&text).expect("the shipped file is sound");
    assert_eq!(config.environment, Environment::Development);
    for section in ["log:", "server:", "database:", "auth:", "introspection:", "models:", "routing:", "cache:"] {
        assert!(
            text.lines().any(|line| line.starts_with(section)),
            "{section} is not explained in conf/backend.yaml"
        );
    }
}

#[test]
fn the_manual_names_every_section() {
    let text = manual();
    for part in ["## `server`", "## `auth.hashing`", "## `models[]`", "| `answers_max` | whole number | `10000` |"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
