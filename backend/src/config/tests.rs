//! Tests of the configuration: what is right loads, and every mistake is told with its place.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use common::redis::RedisUrl;
use common::settings;

use super::{Config, Database, Environment, ModelSize, RedisPlace, SandboxProtocol, manual};

fn read(text: &str) -> Result<Config, String> {
    settings::load("backend.yaml", text, HashMap::new(), super::check::check).map_err(|report| report.to_string())
}

#[test]
fn one_line_is_a_whole_configuration() {
    let config = read("version: 1\n").expect("defaults suffice in development");
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.server.api.to_string(), "127.0.0.1:8000");
    let Database::Sqlite(database) = &config.database else { panic!("a file, not {:?}", config.database) };
    assert_eq!(database.path, Path::new(".run/capibara6.db"));
    assert_eq!(config.auth.access_token_ttl, Duration::from_mins(30));
    assert!(config.models.is_empty() && config.introspection.secret.is_none());
    assert_eq!(config.server.graphql.to_string(), "127.0.0.1:8001");
    assert!(config.graphql.introspection, "a schema tells about itself in development");
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
    assert_eq!((small.attempts_max, small.circuit.failures_max, small.fallbacks.len()), (2, 5, 0));
    assert_eq!((config.streams.open_max, config.streams.heartbeat), (256, Duration::from_secs(10)));
    assert!(config.sandbox.is_none() && config.playbooks.path.is_none() && !config.cache.public);
}

#[test]
fn a_sandbox_gets_its_address() {
    let config = read("version: 1\nsandbox: { url: \"http://127.0.0.1:9100/box/\", timeout: 5s }\n").expect("sound");
    let sandbox = config.sandbox.expect("it is there");
    assert_eq!((sandbox.protocol, sandbox.url.as_str()), (SandboxProtocol::Plain, "http://127.0.0.1:9100/box/"));
    assert_eq!((sandbox.timeout, sandbox.output_bytes_max), (Duration::from_secs(5), 64 * 1024));
    let own = "version: 1\nsandbox: { protocol: e2b, url: \"https://api.e2b.example\", run_at: \"http://10.0.0.9/{id}\" }\n";
    let sandbox = read(own).expect("sound").sandbox.expect("it is there");
    assert_eq!((sandbox.protocol, sandbox.run_at.as_deref()), (SandboxProtocol::E2b, Some("http://10.0.0.9/{id}")));
    assert_eq!((sandbox.template.as_str(), sandbox.internet), ("code-interpreter-v1", false));
}

#[test]
fn playbooks_lie_beside_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("backend.yaml");
    for (written, expected) in [("books", folder.path().join("books")), ("/srv/books", "/srv/books".into())] {
        std::fs::write(&file, format!("version: 1\nplaybooks: {{ path: {written} }}\n")).expect("a file in it");
        assert_eq!(super::load(&file).expect("sound").playbooks.path, Some(expected));
    }
}

#[test]
fn rules_of_models_and_what_surrounds_them_are_kept() {
    let model = |members: &str| format!("models: [{{ id: m, size: small, url: \"http://h/v1\", {members} }}]");
    let two = "models: [{ id: m, size: small, url: \"http://h/v1\", fallbacks: [k, k] }, \
               { id: k, size: large, url: \"http://h/v1\" }]";
    let cases = [
        (model("fallbacks: [m]"), "models[0].fallbacks[0]: is the model itself"),
        (model("fallbacks: [x]"), "models[0].fallbacks[0]: no model is called \"x\""),
        (two.to_owned(), "models[0].fallbacks[1]: \"k\" stands here twice"),
        (
            "models: [{ id: auto, size: small, url: \"http://h/v1\" }]".to_owned(),
            "models[0].id: \"auto\" is what clients say when the router shall choose",
        ),
        (model("attempts_max: 0"), "models[0].attempts_max: 0 is out of range: 1 to 5"),
        (model("attempts_max: 6"), "models[0].attempts_max: 6 is out of range: 1 to 5"),
        (model("retry_wait_max: 10ms"), "models[0].retry_wait_max: 10ms is shorter than 1s"),
        (model("first_token_timeout: 0s"), "models[0].first_token_timeout: 0ns is shorter than 1s"),
        (model("token_timeout: 1ms"), "models[0].token_timeout: 1ms is shorter than 1s"),
        (model("circuit: { failures_max: 0 }"), "models[0].circuit.failures_max: 0 is out of range"),
        (model("circuit: { open_for: 5ms }"), "models[0].circuit.open_for: 5ms is shorter than 1s"),
        ("streams: { open_max: 0 }".to_owned(), "streams.open_max: 0 is out of range: 1 to 1000000"),
        ("streams: { heartbeat: 5ms }".to_owned(), "streams.heartbeat: 5ms is shorter than 1s"),
        ("playbooks: { score_min: 0 }".to_owned(), "playbooks.score_min: 0 is out of range: 1 to 1000"),
        ("sandbox: {}".to_owned(), "sandbox.url: is missing"),
        ("sandbox: { url: \"http://h\", protocol: e3b }".to_owned(), "sandbox.protocol: "),
        (
            "sandbox: { url: \"http://h\", template: \"\" }".to_owned(),
            "sandbox.template: \"\" cannot name a template",
        ),
        (
            "sandbox: { url: \"http://h\", run_at: \"http://h\" }".to_owned(),
            "sandbox.run_at: is not an http or https",
        ),
        ("sandbox: { url: \"http://h\", run_at: \"{id}\" }".to_owned(), "sandbox.run_at: is not an http or https"),
        (
            "sandbox: { url: \"http://h\", key: \"env:CAPIBARA6_NOT_SET\" }".to_owned(),
            "sandbox.key: environment variable CAPIBARA6_NOT_SET is not set",
        ),
        ("sandbox: { url: \"http://h\", timeout: 5ms }".to_owned(), "sandbox.timeout: 5ms is shorter than 1s"),
        ("sandbox: { url: \"http://h\", output_max: 1B }".to_owned(), "sandbox.output_max: 1 bytes is out of range"),
        ("cache: { public: perhaps }".to_owned(), "cache.public: expected true or false"),
    ];
    for (lines, part) in cases {
        let report = read(&format!("version: 1\n{lines}\n")).expect_err(&lines);
        assert!(report.contains(part), "{lines}: {part} is not in\n{report}");
    }
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
        "backend.yaml:3:18: database.url: a secret is written as env:NAME or file:PATH, never in the open",
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
fn rules_of_the_history_are_kept() {
    let cases = [
        ("every: 10ms", "metrics.history.every: 10ms is shorter than 1s"),
        ("retention: 30s", "metrics.history.retention: is shorter than metrics.history.every"),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\nmetrics: {{ history: {{ {members} }} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
    }
    let history = read("version: 1\n").expect("sound").history;
    assert_eq!((history.every, history.retention), (Duration::from_mins(1), Duration::from_hours(30 * 24)));
}

#[test]
fn rules_of_key_rotation_are_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("short");
    std::fs::write(&file, "a-secret-of-31-bytes-is-too-sho").expect("a file in it");
    let short = format!("secret: \"file:{}\"", file.display());
    let cases = [
        ("publish_before: 1ms", "auth.rotation.publish_before: 1ms is shorter than 1s"),
        ("overlap: 0s", "auth.rotation.overlap: 0ns is shorter than 1s"),
        (
            "secret: \"env:CAPIBARA6_NOT_SET\"",
            "auth.rotation.secret: environment variable CAPIBARA6_NOT_SET is not set",
        ),
        (short.as_str(), "auth.rotation.secret: holds fewer than 32 bytes"),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\nauth: {{ rotation: {{ {members} }} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
    }
    std::fs::write(&file, "a-secret-of-at-least-32-bytes-is-enough").expect("a file in it");
    let rotation = read(&format!("version: 1\nauth: {{ rotation: {{ {short} }} }}\n")).expect("sound").auth.rotation;
    assert!(rotation.secret.is_some());
    assert_eq!((rotation.publish_before, rotation.overlap), (Duration::from_mins(10), Duration::from_mins(5)));
}

#[test]
fn a_server_is_named_by_a_secret_that_does_not_print() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("url");
    let at = |url: &str| {
        std::fs::write(&file, url).expect("a file in it");
        read(&format!("version: 1\ndatabase: {{ url: \"file:{}\", connections_max: 4 }}\n", file.display()))
    };
    for url in ["postgres://app:hunter2@db.example:5432/app?sslmode=verify-full", "postgresql://app@%2Frun%2Fpg/app"]
    {
        let config = at(url).expect(url);
        let Database::Postgres(database) = &config.database else { panic!("a server, not {:?}", config.database) };
        assert_eq!((database.url.expose(), database.connections_max), (url, 4));
        assert_eq!((database.acquire_timeout.as_secs(), database.statement_timeout.as_secs()), (3, 5));
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
    let form = "database.url: holds no address of the form postgres://user:password@host/database";
    let cases = [
        ("hunter2", form),
        ("mysql://app:hunter2@db/app", form),
        ("sqlite:hunter2.db", form),
        ("postgres://db/hunter2", form),
        ("postgres://app:hunter2@db", form),
        ("postgres://app:hunter2@/app", form),
        (
            "postgres://app@db/app?password=hunter2",
            "database.url: holds an address with a setting other than sslmode",
        ),
        ("postgres://app@db/app?sslmode=hunter2", "database.url: holds an address whose sslmode is not disable"),
    ];
    for (url, part) in cases {
        let report = at(url).expect_err(url);
        assert!(report.contains(part), "{url}: {part} is not in\n{report}");
        assert!(!report.contains("hunter2"), "{url}: a secret is told:\n{report}");
    }
}

#[test]
fn rules_of_databases_are_kept() {
    let no_file = "database.path: is not the path of a file";
    let cases = [
        ("path: \"sqlite:x.db\"", no_file),
        ("path: \":memory:\"", no_file),
        ("path: \"x.db?mode=ro\"", no_file),
        ("path: \"postgres://db/app\"", no_file),
        ("path: x.db, url: \"env:CAPIBARA6_NOT_SET\"", "database.path: stands beside database.url"),
        ("url: \"env:CAPIBARA6_NOT_SET\"", "database.url: environment variable CAPIBARA6_NOT_SET is not set"),
        ("readers_max: 0", "database.readers_max: 0 is out of range: 1 to 256"),
        ("busy_timeout: 5ms", "database.busy_timeout: 5ms is shorter than 1s"),
        ("connections_max: 0", "database.connections_max: 0 is out of range: 1 to 1000"),
        ("acquire_timeout: 5ms", "database.acquire_timeout: 5ms is shorter than 1s"),
        ("acquire_timeout: 11m", "database.acquire_timeout: 660s is longer than 10m"),
        ("statement_timeout: 5ms", "database.statement_timeout: 5ms is shorter than 1s"),
        ("statement_timeout: 1h", "database.statement_timeout: 3600s is longer than 10m"),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\ndatabase: {{ {members} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
    }
}

#[test]
fn rules_of_jobs_are_kept() {
    let cases = [
        ("batch_max: 0", "jobs.batch_max: 0 is out of range: 1 to 1000"),
        ("queued_max: 0", "jobs.queued_max: 0 is out of range: 1 to 10000000"),
        ("owner_max: 0", "jobs.owner_max: 0 is out of range: 1 to 10000000"),
        ("concurrency: 0", "jobs.concurrency: 0 is out of range: 1 to 1000"),
        ("attempts_max: 101", "jobs.attempts_max: 101 is out of range: 1 to 100"),
        ("attempt_timeout: 5ms", "jobs.attempt_timeout: 5ms is shorter than 1s"),
        ("backoff: 5ms", "jobs.backoff: 5ms is shorter than 1s"),
        ("backoff: 5s, backoff_max: 4s", "jobs.backoff_max: is shorter than jobs.backoff"),
        ("lease: 5ms", "jobs.lease: 5ms is shorter than 1s"),
        ("poll: 5ms", "jobs.poll: 5ms is shorter than 1s"),
        ("answer_max: 1B", "jobs.answer_max: 1 bytes is out of range"),
        ("retention: 5ms", "jobs.retention: 5ms is shorter than 1s"),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\njobs: {{ {members} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
    }
}

#[test]
fn redis_is_named_without_its_password() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2").expect("a file in it");
    assert!(read("version: 1\nredis: { prefix: mine }\n").expect("sound").redis.is_none(), "none is named");
    let config = read(&format!(
        "version: 1\nredis: {{ url: \"rediss://[::1]:7000\", username: app, password: \"file:{}\" }}\n",
        file.display()
    ))
    .expect("sound");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    let redis = config.redis.expect("it is there");
    assert_eq!(redis.place, RedisPlace::Server(RedisUrl { host: "::1".into(), port: 7000, tls: true }));
    assert_eq!((redis.prefix.as_str(), redis.timeout.as_millis()), ("capibara6-backend", 50));
    assert_eq!(redis.access.password.expect("a password").expose(), "hunter2");
    let sentinel = "version: 1\nredis: { sentinel: { urls: [\"redis://a\", \"redis://b:7\"], service: main } }\n";
    let Some(RedisPlace::Sentinel { urls, service }) = read(sentinel).expect("sound").redis.map(|redis| redis.place)
    else {
        panic!("sentinels are asked");
    };
    assert_eq!((urls[0].port, urls[1].port, service.as_str()), (6379, 7, "main"));
}

#[test]
fn rules_of_redis_are_kept() {
    let cases = [
        ("url: \"http://h\"", "redis.url: expected a URL such as redis://10.0.0.5:6379"),
        ("url: \"redis://h/1\"", "redis.url: nothing stands behind the port"),
        ("url: \"redis://app:hunter2@h\"", "redis.url: the user name and password are keys of their own"),
        (
            "url: \"redis://h\", sentinel: { urls: [\"redis://h\"], service: m }",
            "redis.url: stands beside redis.sentinel",
        ),
        ("sentinel: { urls: [], service: m }", "redis.sentinel.service: needs at least one address"),
        ("username: app", "redis.username: is of no use without redis.password"),
        ("password: \"env:CAPIBARA6_NOT_SET\"", "redis.password: environment variable CAPIBARA6_NOT_SET is not set"),
        ("ca: /nowhere/ca.pem", "redis.ca: /nowhere/ca.pem: "),
        ("timeout: 0s", "redis.timeout: 0ns is out of range: 1ms to 10s"),
        ("connect_timeout: 11s", "redis.connect_timeout: 11s is out of range: 1ms to 10s"),
        ("prefix: \"a b\"", "redis.prefix: \"a b\" cannot name a prefix"),
        ("answer_max: 1B", "redis.answer_max: 1 bytes is out of range"),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\nredis: {{ {members} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
        assert!(!report.contains("hunter2"), "{members}: a secret is told:\n{report}");
    }
}

#[test]
fn rules_of_traces_are_kept() {
    let cases = [
        ("sample: 10%", "traces.otlp: is missing; write the collector's address"),
        ("otlp: \"http://me:hunter2@h\"", "traces.otlp: is not an http or https address without credentials"),
        ("otlp: \"http://h\", sample: 0.1", "traces.sample: expected a share from 0% to 100%"),
        ("otlp: \"http://h\", timeout: 0s", "traces.timeout: must be longer than nothing"),
        ("otlp: \"http://h\", queue_max: 0", "traces.queue_max: 0 is out of range: 1 to 1000000"),
        (
            "otlp: \"http://h\", headers: { A: \"env:CAPIBARA6_NOT_SET\" }",
            "traces.headers.A: environment variable CAPIBARA6_NOT_SET is not set",
        ),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\ntraces: {{ {members} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
        assert!(!report.contains("hunter2"), "{members}: a secret is told:\n{report}");
    }
}

#[test]
fn rules_of_visitors_are_kept() {
    let cases = [
        (
            "trusted_hosts: [\"api.example.org:443\"]",
            "server.trusted_hosts[0]: \"api.example.org:443\" is not a name",
        ),
        ("trusted_hosts: [a, \"\"]", "server.trusted_hosts[1]: \"\" is not a name without a port"),
        ("trusted_hosts: [\"[::g]\"]", "server.trusted_hosts[0]: \"[::g]\" is not a name without a port"),
        ("cors: { origins: [\"*\"], credentials: true }", "server.cors.origins[0]: every page anywhere"),
        ("cors: { origins: [\"https://a\", \"*\"] }", "server.cors.origins[1]: * means every origin"),
        ("cors: { origins: [\"https://a/\"] }", "server.cors.origins[0]: \"https://a/\" is not an origin"),
        ("cors: { origins: [\"https://A\"] }", "server.cors.origins[0]: \"https://A\" is not an origin"),
        ("cors: { origins: [\"https://a:443\"] }", "server.cors.origins[0]: \"https://a:443\" is not an origin"),
        ("cors: { origins: [\"ftp://a\"] }", "server.cors.origins[0]: \"ftp://a\" is not an origin"),
        ("cors: { origins: [a] }", "server.cors.origins[0]: \"a\" is not an origin"),
    ];
    for (members, part) in cases {
        let report = read(&format!("version: 1\nserver: {{ {members} }}\n")).expect_err(members);
        assert!(report.contains(part), "{members}: {part} is not in\n{report}");
    }
    let config = read(
        "version: 1\nserver: { trusted_hosts: [API.example.org, \"[::1]\"], \
         cors: { origins: [\"https://app.example.org\", \"http://127.0.0.1:3000\"], credentials: true } }\n",
    )
    .expect("sound");
    assert_eq!(config.server.trusted_hosts, ["api.example.org", "[::1]"]);
    assert_eq!(config.server.cors.origins, ["https://app.example.org", "http://127.0.0.1:3000"]);
    assert!(config.server.cors.credentials);
}

#[test]
fn rules_of_graphql_are_kept() {
    let cases = [
        ("server: { api: \"127.0.0.1:8001\" }", "server.graphql: server.graphql must have an address of its own"),
        (
            "server: { internal: \"127.0.0.1:8001\" }",
            "server.graphql: server.graphql must have an address of its own",
        ),
        ("graphql: { depth_max: 31 }", "graphql.depth_max: 31 is out of range: 1 to 30"),
        ("graphql: { batch_max: 0 }", "graphql.batch_max: 0 is out of range: 1 to 1000"),
        ("graphql: { socket: { ping: 10ms } }", "graphql.socket.ping: 10ms is shorter than 1s"),
        ("graphql: { socket: { operations_max: 0 } }", "graphql.socket.operations_max: 0 is out of range: 1 to 1000"),
    ];
    for (lines, part) in cases {
        let report = read(&format!("version: 1\n{lines}\n")).expect_err(lines);
        assert!(report.contains(part), "{lines}: {part} is not in\n{report}");
    }
}

#[test]
fn the_schema_is_told_where_the_file_says_so() {
    let told = |lines: &str| read(&format!("version: 1\n{lines}\n")).expect(lines).graphql.introspection;
    assert!(!told("graphql: { introspection: false }"));
    assert!(told("graphql: { introspection: true }"));
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
    let sections = [
        "log:",
        "server:",
        "database:",
        "redis:",
        "auth:",
        "introspection:",
        "models:",
        "routing:",
        "cache:",
        "streams:",
        "playbooks:",
        "sandbox:",
        "jobs:",
        "graphql:",
    ];
    for section in sections {
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
