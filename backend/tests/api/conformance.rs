//! Conformance: what tools from outside make of the API. They are not part of `make test`, for they are not Debian's.
//!
//! Read next: `../conformance/`, which has what the tools are given.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::process::Program;

use crate::harness::backend::{ADMIN, Backend};

/// How long a tool may take.
const LIMIT: Duration = Duration::from_mins(5);

/// The folder with the tools' input, and with what `make conformance` has installed for them.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// Where `make conformance` has put Python's packages.
fn python_programs() -> PathBuf {
    PathBuf::from(std::env::var_os("CONFORMANCE_PYTHON").expect("`make conformance` names the folder")).join("bin")
}

async fn passes(name: &'static str, command: Command) {
    let ended = Program::start(name, command, "").ended(LIMIT).await;
    println!("{}", ended.stdout);
    assert!(ended.status.success(), "{name} is not content:\n{}\n{}", ended.stdout, ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs packages of Python: make conformance"]
async fn every_answer_is_as_the_document_says() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let mut command = Command::new(python_programs().join("schemathesis"));
    command.current_dir(backend.folder().path());
    command.args(["run", &backend.url("/api/v1/openapi.json"), "--url", &backend.url("")]);
    command.args(["--header", &format!("Authorization: Bearer {}", admin.access)]);
    // These end sessions, the one of the tool among them.
    command.args(["--exclude-path", "/auth/logout", "--exclude-path", "/auth/refresh"]);
    // A cursor is opaque: its schema says which letters it has, not which ones were given.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--continue-on-failure"]);
    passes("schemathesis", command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a package of Node.js: make conformance"]
async fn graphql_over_http_is_kept() {
    let backend = Backend::development().await;
    let admin = backend.login(ADMIN).await;
    let mut command = Command::new("node");
    command.current_dir(folder()).args(["graphql_audit.mjs", &backend.graphql_url("/graphql"), &admin.access]);
    passes("graphql_audit.mjs", command).await;
}
