//! Backend: the real program the gateway was built for, on free ports.
//!
//! For: the tests of the whole way. May touch: the backend's binary, a temporary folder that several backends share.
//! Promises: `start` returns once both of its listeners listen. Read next: `whole.rs` in the folder above.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::process::Program;
use testkit::wait::PATIENCE;

use super::gateway;

/// A running backend.
pub struct Backend {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the internal listener listens: introspection, metrics.
    pub internal: SocketAddr,
    /// Ends with the value.
    _program: Program,
}

impl Backend {
    /// Starts a backend with the settings in `file` and waits until it listens.
    pub async fn start(file: &Path) -> Self {
        let mut program = Program::start("backend", command(&["all"], file), "");
        let api = program.listening("api").await;
        let internal = program.listening("internal").await;
        Self { api, internal, _program: program }
    }
}

/// Writes the settings that the backends of one test share: one database in `folder`, ports of the system's choice.
pub fn write_settings(folder: &Path) -> PathBuf {
    let seal = folder.join("seal");
    std::fs::write(&seal, "a-secret-of-at-least-32-bytes-for-keys").expect("a temporary folder can be written");
    let settings = format!(
        "version: 1\n\
         environment: development\n\
         log: {{ filter: info, format: json }}\n\
         server: {{ api: \"127.0.0.1:0\", graphql: \"127.0.0.1:0\", internal: \"127.0.0.1:0\", drain: 5s }}\n\
         database: {{ path: \"{}\" }}\n\
         auth: {{ issuer: \"https://auth.capibara6.local/\", audience: capibara6, \
         rotation: {{ secret: \"file:{}\", publish_before: 4s }} }}\n",
        folder.join("capibara6.db").display(),
        seal.display()
    );
    let file = folder.join("backend.yaml");
    std::fs::write(&file, settings).expect("a temporary folder can be written");
    file
}

/// Creates a user as an operator does: by command, the password on standard input.
pub async fn add_user(file: &Path, name: &str, role: &str, password: &str) {
    let command = command(&["user", "add", "--name", name, "--role", role], file);
    let ended = Program::start("backend user add", command, &format!("{password}\n")).ended(PATIENCE).await;
    assert!(ended.status.success(), "`backend user add` failed with {}:\n{}", ended.status, ended.stderr);
}

/// Makes a new signing key as an operator does, and returns its id.
pub async fn rotate_key(file: &Path) -> String {
    let ended = Program::start("backend key rotate", command(&["key", "rotate"], file), "").ended(PATIENCE).await;
    assert!(ended.status.success(), "`backend key rotate` failed with {}:\n{}", ended.status, ended.stderr);
    ended.stdout.trim().to_owned()
}

fn command(words: &[&str], file: &Path) -> Command {
    // Cargo names only the binaries of the crate under test; the backend's lies beside the gateway's.
    let binary = gateway::binary().with_file_name(format!("backend{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.exists(), "{} is missing: run `cargo build --workspace` (make test does) first", binary.display());
    let mut command = Command::new(binary);
    command.args(words).arg("-c").arg(file);
    command
}
