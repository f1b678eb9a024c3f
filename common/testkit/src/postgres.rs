//! Postgres: a real server of the test's own, which can be stopped and come back.
//!
//! For: what is kept on a server. May touch: the programs of Debian's `postgresql`, a temporary folder.
//! Promises: no server but its own is asked for anything; nothing is forced to the disk, so that it is quick; the server
//! ends with the value, and its folder goes with it. Where Postgres is not installed, the test fails and says so.
//! Read next: `process.rs`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use crate::process::Program;
use crate::redis::free_address;
use crate::wait::{PATIENCE, until};

/// The variable by which `with-servers` tells a server's address to what it runs: the database where others are made.
pub const VARIABLE: &str = "BACKEND_TEST_POSTGRES";

/// What to do where there is none.
const MISSING: &str = "Postgres is not installed: `make test` installs it (Debian's package is called postgresql)";

/// Where Debian puts each version, outside of the search path.
const INSTALLED: &str = "/usr/lib/postgresql";

/// The programs that are needed.
const PROGRAMS: [&str; 4] = ["initdb", "postgres", "pg_ctl", "psql"];

/// The account that Debian's package makes, and the name of the databases' owner.
const OWNER: &str = "postgres";

/// A test has few connections and little data, and none of it is worth keeping.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "max_connections=60",
    "shared_buffers=16MB",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
];

/// What in the environment would tell the programs of another server.
const ENVIRONMENT: [&str; 9] =
    ["PGDATA", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGOPTIONS", "PGSERVICE"];

/// How long the server may take to end when the test does, in seconds; then it is killed.
const END_SECONDS_MAX: &str = "5";

/// A server.
pub struct Postgres {
    program: Option<Program>,
    address: SocketAddr,
    folder: PathBuf,
    programs: PathBuf,
    account: Option<Account>,
    settings: Vec<String>,
}

/// Whom the server runs as, when not as who runs the test.
#[derive(Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

impl Postgres {
    /// Makes a server, starts it, and waits until it takes connections: a second or so.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more settings, such as `max_connections=500`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let programs = programs();
        let folder = std::env::temp_dir().join(format!("pg-{}", Uuid::now_v7().simple()));
        fs::DirBuilder::new().mode(0o700).create(&folder).expect("a folder for temporary files");
        let account = account(&folder);
        // What comes last counts.
        let settings = SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let mut postgres = Self { program: None, address: free_address(), folder, programs, account, settings };
        let mut command = postgres.command("initdb");
        command.arg("--pgdata").arg(postgres.data()).args(["--username", OWNER, "--auth", "trust"]);
        // Everything is in English and nothing is sorted in a country's own way, whatever this machine speaks.
        command.args(["--no-locale", "--encoding", "UTF8", "--no-sync"]);
        run(command);
        postgres.restart().await;
        postgres
    }

    /// Makes an empty database, and returns its address.
    pub fn database(&self, name: &str) -> String {
        self.execute(OWNER, &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{OWNER}@{}/{database}", self.address)
    }

    /// Executes SQL in a database, and returns the rows: a line each, `|` between columns.
    pub fn execute(&self, database: &str, sql: &str) -> String {
        let mut command = self.command("psql");
        command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]);
        command.args(["--host", &self.address.ip().to_string(), "--port", &self.address.port().to_string()]);
        command.args(["--username", OWNER, "--dbname", database, "--command", sql]);
        run(command)
    }

    /// Stops it, as for maintenance: whoever is connected is cut off.
    pub async fn stop(&mut self) {
        let program = self.program.take().expect("it was not stopped before");
        program.signal("INT");
        program.ended(PATIENCE).await;
    }

    /// Starts it again where it was, with everything it kept, and waits until it takes connections.
    pub async fn restart(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
        command.args(["-p", &self.address.port().to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let program = Program::start("postgres", command, "");
        until("postgres takes connections", PATIENCE, async || {
            program.said().contains("ready to accept connections").then_some(())
        })
        .await;
        self.program = Some(program);
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// One of the server's programs, under the server's account.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some(Account { user, group }) = self.account {
            command.uid(user).gid(group);
        }
        for variable in ENVIRONMENT {
            command.env_remove(variable);
        }
        command.current_dir(&self.folder).env("LC_ALL", "C");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.program.is_some() {
            // Killed outright it would leave its shared memory behind. If this fails, killing comes next.
            let mut command = self.command("pg_ctl");
            command.arg("--pgdata").arg(self.data());
            let _ = command.args(["--mode", "immediate", "--wait", "--timeout", END_SECONDS_MAX, "stop"]).output();
            self.program = None;
        }
        // What cannot be removed lies in the folder for temporary files, where it is removed one day.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder of the programs: of the one that is found first, or of the newest version that Debian has installed.
fn programs() -> PathBuf {
    let searched = std::env::var_os("PATH").unwrap_or_default();
    let searched = std::env::split_paths(&searched).collect::<Vec<_>>();
    let mut installed: Vec<PathBuf> =
        fs::read_dir(INSTALLED).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    installed.sort_by_key(|folder| std::cmp::Reverse(version(folder.as_path())));
    let installed = installed.into_iter().map(|folder| folder.join("bin"));
    // What lies in the search path may be a link to one program of several that belong together.
    let real = |folder: PathBuf| Some(fs::canonicalize(folder.join("initdb")).ok()?.parent()?.to_owned());
    let whole = |folder: &PathBuf| PROGRAMS.iter().all(|program| folder.join(program).is_file());
    searched.into_iter().chain(installed).filter_map(real).find(whole).expect(MISSING)
}

/// The server refuses to run as root, so root lends it the account that its package has made.
fn account(folder: &Path) -> Option<Account> {
    if fs::metadata(folder).expect("it was just made").uid() != 0 {
        return None;
    }
    let account = Account { user: id("-u"), group: id("-g") };
    chown(folder, Some(account.user), Some(account.group)).expect("root may give a folder away");
    Some(account)
}

fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, OWNER]).output().expect("the system tells an account's numbers");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect(MISSING)
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}:\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
