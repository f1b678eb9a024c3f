//! The `backend` program: flags → configuration → `app`.
//!
//! For: the command line. May touch: `app`, `config`, standard input and output.
//! Promises: a bad configuration prints every mistake and exits 64; any other failure prints its causes and exits 1.
//! Read next: `app.rs`.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backend::api;
use backend::app::{self, Faces};
use backend::config::{self, Config};
use clap::{Args, Parser, Subcommand};
use common::access::Role;
use common::health;
use common::output;
use common::secret::{Secret, SecretRef};
use common::telemetry::{self, LogGuard, with_causes};

/// The exit code of a wrong command or configuration: `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// The longest password read from standard input, in bytes: longer ones are refused anyway.
const PASSWORD_BYTES_MAX: u64 = 4 * 1024;

/// The API behind the gateway: users, keys, tokens, and answers by language models.
#[derive(Parser)]
#[command(name = "backend", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve everything in one process.
    All(ConfigFlag),
    /// Serve the REST API.
    Api(ConfigFlag),
    /// Serve GraphQL.
    Graphql(ConfigFlag),
    /// Answer batches, as many such processes as you like beside each other.
    Worker(ConfigFlag),
    /// Bring the database up to date.
    Migrate(ConfigFlag),
    /// Check the configuration, and tell every mistake in it.
    Check(ConfigFlag),
    /// Ask the backend that runs here with this configuration whether it lives; exit code 0 when it does, 1 when not.
    Health(ConfigFlag),
    /// Manage users.
    #[command(subcommand)]
    User(UserCommand),
    /// Manage the keys that sign access tokens.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Print every key of the configuration as Markdown.
    Manual,
    /// Print the description of the REST API as JSON.
    Openapi,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Make a user. The password is the first line of standard input.
    Add(UserAdd),
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a new key. It is published now, and signs after `auth.rotation.publish_before`.
    Rotate(KeyRotate),
    /// List the keys: what each does, since when it signs, until when it is published.
    List(ConfigFlag),
}

#[derive(Args)]
struct KeyRotate {
    #[command(flatten)]
    config: ConfigFlag,
    /// Let the key that waits, or else a new one, sign at once. Verifiers that have not fetched it refuse its first tokens.
    #[arg(long)]
    now: bool,
}

#[derive(Args)]
struct ConfigFlag {
    /// The configuration.
    #[arg(short, long, default_value = "conf/backend.yaml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct UserAdd {
    #[command(flatten)]
    config: ConfigFlag,
    /// The user's name.
    #[arg(long)]
    name: String,
    /// What the user is: admin, developer, user or readonly.
    #[arg(long)]
    role: Role,
    /// Where the password is kept, as env:NAME or <file:PATH>, instead of standard input.
    #[arg(long, value_name = "REFERENCE")]
    password_ref: Option<String>,
}

/// What ends the program, and how.
enum Failure {
    /// The configuration or the command is wrong.
    Usage(String),
    /// Something did not work.
    Broken(String),
}

fn main() -> ExitCode {
    // Two TLS providers may be linked; rustls refuses to guess, so the first line of every program says which.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("backend: another TLS provider was installed before ours");
        return ExitCode::FAILURE;
    }
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("{text}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Broken(text)) => {
            eprintln!("backend: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::All(flag) => serve(&flag, Faces::All),
        Command::Api(flag) => serve(&flag, Faces::Rest),
        Command::Graphql(flag) => serve(&flag, Faces::Graphql),
        Command::Worker(flag) => serve(&flag, Faces::Worker),
        Command::Migrate(flag) => {
            let config = load(&flag.config)?;
            let _log_guard = start_log(&config)?;
            in_runtime(app::migrate(&config))?.map_err(|error| broken(&error))
        }
        Command::Check(flag) => {
            let config = load(&flag.config)?;
            app::check(&config).map_err(|error| Failure::Usage(with_causes(&error)))?;
            say(&format!("{}: sound\n", flag.config.display()))
        }
        Command::Health(flag) => {
            let config = load(&flag.config)?;
            // Every process has this listener, whatever else it shows.
            health::ask(config.server.internal, "/health").map_err(|error| Failure::Broken(error.to_string()))
        }
        Command::User(UserCommand::Add(add)) => user_add(&add),
        Command::Key(KeyCommand::Rotate(rotate)) => key_rotate(&rotate),
        Command::Key(KeyCommand::List(flag)) => key_list(&flag),
        Command::Manual => say(&config::manual()),
        Command::Openapi => say(&api::openapi()),
    }
}

/// Prints an answer.
fn say(text: &str) -> Result<(), Failure> {
    output::say(text).map_err(|error| Failure::Broken(format!("standard output: {error}")))
}

fn serve(flag: &ConfigFlag, faces: Faces) -> Result<(), Failure> {
    let config = load(&flag.config)?;
    let _log_guard = start_log(&config)?;
    in_runtime(app::run(config, faces))?.map_err(|error| broken(&error))
}

fn user_add(add: &UserAdd) -> Result<(), Failure> {
    let config = load(&add.config.config)?;
    let _log_guard = start_log(&config)?;
    let password = match &add.password_ref {
        Some(reference) => SecretRef::parse(reference)
            .and_then(|reference| reference.resolve())
            .map_err(|error| Failure::Usage(format!("--password-ref: {}", with_causes(&error))))?,
        None => read_password()?,
    };
    let made = in_runtime(app::user_add(&config, &add.name, password, add.role))?;
    let user = made.map_err(|error| broken(&error))?;
    say(&format!("{} {} {}\n", user.id, user.name, user.role))
}

fn key_rotate(rotate: &KeyRotate) -> Result<(), Failure> {
    let config = load(&rotate.config.config)?;
    let _log_guard = start_log(&config)?;
    let id = in_runtime(app::key_rotate(&config, rotate.now))?.map_err(|error| broken(&error))?;
    say(&format!("{id}\n"))
}

fn key_list(flag: &ConfigFlag) -> Result<(), Failure> {
    let config = load(&flag.config)?;
    let _log_guard = start_log(&config)?;
    let time = |seconds: Option<i64>| seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
    for key in in_runtime(app::key_list(&config))?.map_err(|error| broken(&error))? {
        let (from, until) = (time(key.signs_from), time(key.published_until));
        say(&format!("{} {} signs_from={from} published_until={until}\n", key.id, key.state.as_str()))?;
    }
    Ok(())
}

fn read_password() -> Result<Secret, Failure> {
    let mut line = String::new();
    let input = std::io::stdin().lock();
    let mut bounded = std::io::BufReader::new(std::io::Read::take(input, PASSWORD_BYTES_MAX));
    bounded.read_line(&mut line).map_err(|error| Failure::Broken(format!("cannot read the password: {error}")))?;
    Ok(Secret::new(line.trim_end_matches(['\n', '\r']).to_owned()))
}

fn load(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(|report| Failure::Usage(report.to_string()))
}

fn start_log(config: &Config) -> Result<LogGuard, Failure> {
    telemetry::init(&config.log.filter, config.log.format).map_err(|error| Failure::Usage(with_causes(&error)))
}

fn in_runtime<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Broken(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(work))
}

fn broken(error: &app::StartError) -> Failure {
    Failure::Broken(with_causes(error))
}
