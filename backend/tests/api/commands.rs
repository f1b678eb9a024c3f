//! Commands: what an operator types, and what production does not put up with.
//!
//! Read next: nothing; this is the last room.

use std::path::Path;

use serde_json::json;
use testkit::process::Ended;
use tokio::net::TcpListener;

use crate::harness::backend::{ADMIN, Backend, Folder, folder, run};
use crate::harness::client::send;
use crate::harness::model::{FakeModel, Script};
use crate::harness::settings::{Settings, database_file, secret_file, write_text};
use crate::harness::token::SigningKey;

/// `EX_USAGE` of sysexits.h: what is wrong is the input, and starting again will not help.
const EXIT_BAD_CONFIG: i32 = 64;

/// Anything else that went wrong.
const EXIT_FAILURE: i32 = 1;

/// Four mistakes, each on a line of its own.
const FOUR_MISTAKES: &str = "\
version: 1
server:
  api: localhost
  body_max: 1 megabyte
auth:
  acces_token_ttl: 5m
models:
  - { id: m, size: medium, url: \"http://127.0.0.1:9000/v1\" }
";

/// What the gateway and the backend share.
const SECRET: &str = "a-secret-between-two-programs";

/// The settings of a backend in production that lacks nothing, with this signing key.
fn production(folder: &Folder, key: &SigningKey, model: &FakeModel) -> Settings {
    let secret = secret_file(folder.path(), "introspection", SECRET);
    Settings::production()
        .auth(format!("signing_keys: [{}]", key.setting(folder.path())))
        .introspection(format!("secret: {secret}"))
        .model(model.setting("m", "small"))
}

fn expect_exit(ended: &Ended, code: i32) {
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_told_at_once_with_its_place() {
    let folder = folder();
    let file = write_text(folder.path(), FOUR_MISTAKES);
    let name = file.display().to_string();
    for command in ["check", "all", "api", "graphql", "migrate"] {
        println!("{command}");
        let ended = run(&[command], &file, "").await;
        expect_exit(&ended, EXIT_BAD_CONFIG);
        let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with(&name)).collect();
        assert_eq!(errors.len(), 4, "{ended:?}");
        let expected = [
            ("3:8", "server.api", "localhost"),
            ("4:13", "server.body_max", "a size"),
            ("6:3", "auth", "did you mean \"access_token_ttl\"?"),
            ("8:20", "models[0].size", "medium"),
        ];
        for (error, (place, path, words)) in errors.iter().zip(expected) {
            assert!(error.starts_with(&format!("{name}:{place}: {path}")), "expected {place} {path}: {error}");
            assert!(error.contains(words), "expected {words}: {error}");
        }
    }
    assert!(!database_file(folder.path()).exists(), "nothing runs on a file with mistakes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_a_mistake_as_well() {
    let folder = folder();
    let nowhere = run(&["check"], &folder.path().join("nowhere.yaml"), "").await;
    expect_exit(&nowhere, EXIT_BAD_CONFIG);
    assert!(nowhere.stderr.contains("nowhere.yaml"), "{nowhere:?}");

    let garbage = secret_file(folder.path(), "k1.pem", "not-a-key-but-secret");
    let settings = Settings::development().auth(format!("signing_keys: [{{ id: k1, key: {garbage} }}]"));
    let ended = run(&["check"], &settings.write(folder.path()), "").await;
    expect_exit(&ended, EXIT_BAD_CONFIG);
    assert!(ended.stderr.contains("k1"), "{ended:?}");
    assert!(!ended.stderr.contains("not-a-key-but-secret"), "a secret is told: {ended:?}");

    let short = secret_file(folder.path(), "introspection", "short-secret");
    let settings = Settings::development().introspection(format!("secret: {short}"));
    let ended = run(&["check"], &settings.write(folder.path()), "").await;
    expect_exit(&ended, EXIT_BAD_CONFIG);
    assert!(ended.stderr.contains("introspection.secret"), "{ended:?}");
    assert!(!ended.stderr.contains("short-secret"), "a secret is told: {ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_settings_pass_and_the_shipped_ones_do() {
    let folder = folder();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/backend.yaml");
    for file in [Settings::development().write(folder.path()), shipped] {
        expect_exit(&run(&["check"], &file, "").await, 0);
    }
    assert!(!database_file(folder.path()).exists(), "checking makes no database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_can_run_twice_and_at_once() {
    let folder = folder();
    let file = Settings::development().write(folder.path());
    let (one, two) = tokio::join!(run(&["migrate"], &file, ""), run(&["migrate"], &file, ""));
    for ended in [&one, &two, &run(&["migrate"], &file, "").await] {
        expect_exit(ended, 0);
    }
    // A database that was migrated beforehand is as good as an empty one.
    Backend::start_as("all", &folder, &file).await.login(ADMIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_makes_users() {
    let folder = folder();
    let file = Settings::development().write(folder.path());
    let add = async |name: &str, role: &str, more: &[&str], input: &str| {
        let mut words = vec!["user", "add", "--name", name, "--role", role];
        words.extend_from_slice(more);
        let ended = run(&words, &file, input).await;
        for secret in ["ann-has-a-password", "ben-has-a-password", "seven77"] {
            let told = ended.stdout.contains(secret) || ended.stderr.contains(secret);
            assert!(!told, "a password is told: {ended:?}");
        }
        ended
    };
    expect_exit(&add("Ann", "developer", &[], "ann-has-a-password\nthe next line is not read\n").await, 0);
    let reference = secret_file(folder.path(), "ben", "ben-has-a-password\n");
    let reference = reference.trim_matches('"');
    expect_exit(&add("ben", "readonly", &["--password-ref", reference], "").await, 0);
    let taken = add("ann", "user", &[], "another-password\n").await;
    expect_exit(&taken, EXIT_FAILURE);
    assert!(taken.stderr.contains("taken"), "{taken:?}");
    let short = add("cat", "user", &[], "seven77\n").await;
    expect_exit(&short, EXIT_FAILURE);
    assert!(short.stderr.contains("8 to 128 characters"), "{short:?}");

    // While there are users, none is seeded.
    let backend = Backend::start_as("all", &folder, &file).await;
    send(backend.try_login(ADMIN.0, ADMIN.1)).await.expect_problem(401, "login_failed");
    backend.login(("ann", "ann-has-a-password")).await;
    let ben = backend.login(("ben", "ben-has-a-password")).await;
    let me = send(backend.get("/auth/me").bearer_auth(&ben.access)).await;
    assert_eq!(me.json()["roles"], json!(["readonly"]), "{me:?}");
    // The command and a running program share the database.
    expect_exit(&add("dan", "user", &[], "dan-has-a-password\n").await, 0);
    backend.login(("dan", "dan-has-a-password")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn development_says_loudly_what_it_is() {
    let backend = Backend::development().await;
    let said = backend.said();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("DEVELOPMENT")).collect();
    assert!(warnings.iter().all(|line| line.contains("\"level\":\"WARN\"")), "{said}");
    for about in ["key", "admin", "embedded model"] {
        assert!(warnings.iter().any(|line| line.contains(about)), "no warning about {about}:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_does_not_start_with_what_everybody_knows() {
    let (folder, key) = (folder(), SigningKey::generate("k1"));
    let model = FakeModel::start(Script::Answer("Yes.")).await;
    let lacking = run(&["all"], &Settings::production().write(folder.path()), "").await;
    expect_exit(&lacking, EXIT_BAD_CONFIG);
    for needed in ["auth.signing_keys", "introspection.secret", "models"] {
        assert!(lacking.stderr.contains(needed), "{needed} is not asked for: {lacking:?}");
    }

    // The development key stands in the source, for everybody to read.
    let source = include_str!("../../src/auth/jwks.rs");
    let begin = source.find("-----BEGIN PRIVATE KEY-----").expect("the key is in the source");
    let end = source.find("-----END PRIVATE KEY-----").expect("the key is in the source");
    let known = SigningKey::read("k1", &format!("{}-----END PRIVATE KEY-----\n", &source[begin..end]));
    let ended = run(&["all"], &production(&folder, &known, &model).write(folder.path()), "").await;
    expect_exit(&ended, EXIT_FAILURE);
    assert!(ended.stderr.contains("development key"), "{ended:?}");

    // A database that was once used in development has the known user.
    let seeded = Backend::start_in(&folder, &Settings::development()).await;
    seeded.login(ADMIN).await;
    seeded.stop().await;
    let file = production(&folder, &key, &model).write(folder.path());
    let ended = run(&["all"], &file, "").await;
    expect_exit(&ended, EXIT_FAILURE);
    assert!(ended.stderr.contains("development password"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_runs_when_it_has_all_it_needs() {
    let (folder, key) = (folder(), SigningKey::generate("k1"));
    let model = FakeModel::start(Script::Answer("Montevideo.")).await;
    let file = production(&folder, &key, &model).write(folder.path());
    let backend = Backend::start_as("all", &folder, &file).await;
    assert!(!backend.said().contains("DEVELOPMENT"), "{}", backend.said());
    send(backend.try_login(ADMIN.0, ADMIN.1)).await.expect_problem(401, "login_failed");
    send(backend.introspect("anything")).await.expect_problem(401, "token_missing");
    let words = ["user", "add", "--name", "root", "--role", "admin"];
    expect_exit(&run(&words, &file, "a-password-of-its-own\n").await, 0);
    let root = backend.login(("root", "a-password-of-its-own")).await;
    let answer = send(backend.query(&json!({ "query": "Capital?" })).bearer_auth(&root.access)).await;
    answer.expect_status(200);
    assert_eq!(answer.text("answer"), "Montevideo.");
    let health = send(backend.get("/health/detailed")).await;
    health.expect_status(200);
    assert!(!health.body.contains("capibara6-dev"), "the embedded model is not there: {health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("a bound socket has an address");
    let folder = folder();
    let text = format!(
        "version: 1\nserver: {{ api: \"{address}\", graphql: \"127.0.0.1:0\", internal: \"127.0.0.1:0\" }}\n\
         database: {{ path: \"{}\" }}\n",
        database_file(folder.path()).display()
    );
    let ended = run(&["all"], &write_text(folder.path(), &text), "").await;
    expect_exit(&ended, EXIT_FAILURE);
    assert!(ended.stderr.contains(&address.to_string()), "{ended:?}");
}
