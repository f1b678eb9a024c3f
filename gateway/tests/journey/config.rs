//! Config: every mistake at once, each with its place, and nothing runs on a file that has one.
//!
//! Read next: `listen.rs`.

use std::path::Path;
use std::process::Command;

use testkit::process::{Ended, Program};
use testkit::wait::PATIENCE;

use crate::harness::gateway::{Gateway, binary, command, write_settings};
use crate::harness::settings::{HEAD, HTTP, OPEN, Pool, upstream};
use crate::harness::upstream::Echo;

/// `EX_USAGE` of sysexits.h: what is wrong is the input, and starting again will not help.
const EXIT_BAD_CONFIG: i32 = 64;

/// Five mistakes, each on a line of its own.
const FIVE_MISTAKES: &str = "\
version: 1
environment: development
listeners:
  http: { bind: \"127.0.0.1:0\" }
upstreams:
  api:
    targets: [\"127.0.0.1:8000\"]
    balanse: round_robin
  slow:
    targets: [\"127.0.0.1:8001\"]
    timeouts: { connect: 2 seconds }
  api:
    targets: [\"127.0.0.1:8002\"]
routes:
  - id: open
    path: /open/*
    to: api
  - id: lost
    path: /lost/*
    auth: none
    to: apu
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_mistakes_are_five_errors_each_with_its_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write_settings(folder.path(), FIVE_MISTAKES);
    let ended = run("check", &file).await;
    assert_eq!(ended.status.code(), Some(EXIT_BAD_CONFIG), "{}", ended.stderr);
    let name = file.display().to_string();
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with(&name)).collect();
    // Where, in the order of the file, and what the message must speak of.
    let expected = [
        (place_of("balanse"), "upstreams.api", "did you mean \"balance\"?"),
        (place_of("2 seconds"), "upstreams.slow.timeouts.connect", "duration"),
        (place_of("api:\n    targets: [\"127.0.0.1:8002\"]"), "\"api\" is set", "twice"),
        (place_of("open\n"), "routes[0].auth", "missing"),
        (place_of("apu"), "routes[1].to", "did you mean \"api\"?"),
    ];
    assert_eq!(errors.len(), expected.len(), "{}", ended.stderr);
    for (error, ((line, column), path, words)) in errors.iter().zip(expected) {
        assert!(
            error.starts_with(&format!("{name}:{line}:{column}: {path}")),
            "expected {line}:{column} {path}: {error}"
        );
        assert!(error.contains(words), "expected {words}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_refuses_what_check_refuses() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write_settings(folder.path(), FIVE_MISTAKES);
    let [checked, run] = [run("check", &file).await, run("run", &file).await];
    assert_eq!(run.status.code(), Some(EXIT_BAD_CONFIG), "{}", run.stderr);
    let name = file.display().to_string();
    let errors = |ended: &Ended| {
        ended.stderr.lines().filter(|line| line.starts_with(&name)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(errors(&run), errors(&checked));
    assert_eq!(run.stdout, "", "no request was served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_ends_the_process_and_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket has an address");
    let open = upstream(&Pool::of(&[address]));
    let file =
        write_settings(folder.path(), &format!("{HEAD}listeners:\n  http: {{ bind: \"{address}\" }}\n{open}{OPEN}"));
    let ended = run("run", &file).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let complaint = format!("listener http cannot bind {address}");
    assert!(ended.stderr.contains(&complaint), "{complaint} is not in\n{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_not_yaml_is_an_error_as_well() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let not_yaml = write_settings(folder.path(), "version: 1\nroutes: [\n");
    for file in [not_yaml, folder.path().join("nowhere.yaml")] {
        let ended = run("check", &file).await;
        assert_eq!(ended.status.code(), Some(EXIT_BAD_CONFIG), "{}", ended.stderr);
        let name = file.display().to_string();
        let errors = ended.stderr.lines().filter(|line| line.starts_with(&name)).count();
        assert_eq!(errors, 1, "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_settings_are_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace");
    let file = root.join("conf/gateway.yaml");
    assert!(file.exists(), "{} is missing", file.display());
    // `make run` makes a certificate and runs these settings beside it; so does this test, in a folder of its own.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut certificate = Command::new(binary());
    certificate.args(["certificate", "--name", "localhost", "--out", ".run/tls"]).current_dir(folder.path());
    let made = Program::start("gateway certificate", certificate, "").ended(PATIENCE).await;
    assert!(made.status.success(), "{}", made.stderr);
    let mut check = command("check", &file);
    check.current_dir(folder.path());
    let ended = Program::start("gateway check", check, "").ended(PATIENCE).await;
    assert!(ended.status.success(), "{}:\n{}", ended.status, ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_asks_the_running_gateway_and_tells_by_its_exit_code() {
    let echo = Echo::start().await;
    let settings = format!("{HEAD}{HTTP}{}{OPEN}", upstream(&Pool::of(&[echo.address()])));
    let gateway = Gateway::plain(&settings).await;
    // The same file as the container's, but for the port, which the system chose.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let admin = format!("admin: {{ bind: \"{}\" }}", gateway.admin_address());
    let file = write_settings(folder.path(), &settings.replace("admin: { bind: \"127.0.0.1:0\" }", &admin));
    for live in [false, true] {
        let mut health = command("health", &file);
        health.args(live.then_some("--live"));
        let ended = Program::start("gateway health", health, "").ended(PATIENCE).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    gateway.terminate();
    assert!(gateway.ended(PATIENCE).await.status.success());
    let ended = run("health", &file).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("nobody answers on 127.0.0.1:"), "{}", ended.stderr);
}

/// Runs a command of the gateway that is expected to end by itself.
async fn run(name: &str, file: &Path) -> Ended {
    Program::start("gateway", command(name, file), "").ended(PATIENCE).await
}

/// Line and column of a text's only occurrence in `FIVE_MISTAKES`, both from 1.
fn place_of(text: &str) -> (usize, usize) {
    let mut found = FIVE_MISTAKES.match_indices(text);
    let (offset, _) = found.next().expect("the text is there");
    assert!(found.next().is_none(), "{text:?} is there more than once");
    let before = &FIVE_MISTAKES[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, offset - line_start + 1)
}
