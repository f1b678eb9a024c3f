//! The `gateway` program: flags in, `app` does the rest.
//!
//! Exit codes: 0 for a clean end, 2 for a command that cannot be understood, 64 for a configuration that is wrong (every mistake on
//! standard error), 69 for `--upgrade` without a running gateway, 1 for the rest: also for a request that `explain` finds refused,
//! and a test that fails.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use common::output;
use gateway::app::{self, Finding, Question, RunError, Start, Who};

/// Who sends a request, where roles or permissions alone are said.
const SUBJECT_DEFAULT: &str = "test";

// Measured on this workload: a fifth less CPU a request than glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An edge for APIs: TLS, tokens and keys, permissions, limits and balancing in front of your servers.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(short, long, env = "GATEWAY_CONFIG", default_value = "conf/gateway.yaml")]
        config: PathBuf,
        /// Take the sockets over from the running gateway, which finds this one by `server.upgrade_socket`, and let it drain.
        #[arg(long)]
        upgrade: bool,
    },
    /// Check a configuration and everything it names; print every mistake.
    Check {
        /// The configuration file.
        #[arg(short, long, env = "GATEWAY_CONFIG", default_value = "conf/gateway.yaml")]
        config: PathBuf,
    },
    /// Say what would become of a request, and why, step by step; exit code 0 when it would pass, 1 when not. Nothing is sent.
    Explain(Explain),
    /// Run the `tests` of a configuration; exit code 1 when one fails. Nothing is sent.
    Test {
        /// The configuration file.
        #[arg(short, long, env = "GATEWAY_CONFIG", default_value = "conf/gateway.yaml")]
        config: PathBuf,
    },
    /// Print every route, the most specific first.
    Routes {
        /// The configuration file.
        #[arg(short, long, env = "GATEWAY_CONFIG", default_value = "conf/gateway.yaml")]
        config: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the gateway that runs here with this configuration whether it is ready; exit code 0 when it is, 1 when not.
    Health {
        /// The configuration file.
        #[arg(short, long, env = "GATEWAY_CONFIG", default_value = "conf/gateway.yaml")]
        config: PathBuf,
        /// Whether it lives is enough.
        #[arg(long)]
        live: bool,
    },
    /// Print the manual of the configuration file, as Markdown.
    Manual,
    /// Print the manual of the error codes, as Markdown.
    Errors,
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Make API keys for a scheme with `api_key.file`.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make a certificate authority and a certificate signed by it, for development and tests.
    Certificate {
        /// A DNS name or IP address that it is for; may be given more than once.
        #[arg(long = "name", default_value = "localhost")]
        names: Vec<String>,
        /// Folder for `ca.crt`, `tls.crt` and `tls.key`.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key. Its entry for the file goes to standard output, so that `>> keys.yaml` adds it; the key itself is shown
    /// once, on standard error.
    New {
        /// Whose key it is.
        #[arg(long)]
        subject: String,
        /// What it is for, for people.
        #[arg(long, default_value = "")]
        name: String,
        /// A permission; may be given more than once.
        #[arg(long = "permission")]
        permissions: Vec<String>,
        /// A role; may be given more than once.
        #[arg(long = "role")]
        roles: Vec<String>,
        /// Days until it ends; without it, it does not.
        #[arg(long)]
        days: Option<u16>,
    },
}

#[derive(Args)]
struct Explain {
    /// The configuration file.
    #[arg(short, long, env = "GATEWAY_CONFIG", default_value = "conf/gateway.yaml")]
    config: PathBuf,
    /// Method and URL, or method and path, as one word: `'GET https://api.example.org/v1/models'`.
    send: String,
    /// A header field, as `'Name: value'`; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The address it comes from.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
    /// Take it to be sent by whoever a token with these claims speaks of: a JSON object.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["subject", "permissions", "roles"])]
    as_token_claims: Option<String>,
    /// Take it to be sent by this caller.
    #[arg(long)]
    subject: Option<String>,
    /// What the caller may do, with commas between.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    permissions: Vec<String>,
    /// The caller's roles, with commas between.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    roles: Vec<String>,
    /// Fetch key sets and ask the sources of credentials, where one has to be judged by them.
    #[arg(long)]
    fetch: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    fn ask(self) -> Result<Finding, RunError> {
        let Self { config, send, headers, from, as_token_claims, subject, permissions, roles, fetch, json } = self;
        let is_known = subject.is_some() || !permissions.is_empty() || !roles.is_empty();
        // `'read, write'` is two words, and `''` is none.
        let words = |list: Vec<String>| -> Vec<String> {
            list.iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
        };
        let sender = match as_token_claims {
            Some(claims) => Who::Claims(claims),
            None if is_known => {
                let subject = subject.unwrap_or_else(|| SUBJECT_DEFAULT.to_owned());
                Who::Known { subject, permissions: words(permissions), roles: words(roles) }
            }
            None => Who::Itself,
        };
        app::explain(&config, &Question { send, headers, from, sender, fetch, json })
    }
}

/// Prints what a question came to.
fn tell(finding: &Finding) -> Result<ExitCode, RunError> {
    output::say(&format!("{}\n", finding.text)).map_err(RunError::Output)?;
    Ok(if finding.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints an answer.
fn say(text: &str) -> Result<ExitCode, RunError> {
    output::say(text).map_err(RunError::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Says why it did not come to anything.
fn fail(error: &RunError) -> ExitCode {
    if let RunError::Configuration(report) = error {
        eprintln!("{report}");
        return ExitCode::from(64);
    }
    eprintln!("gateway: {error}");
    match error {
        RunError::Question(_) => ExitCode::from(2),
        RunError::NothingToTakeOver(_) => ExitCode::from(69),
        _ => ExitCode::FAILURE,
    }
}

fn main() -> ExitCode {
    // The process's one crypto provider. Without it, libraries that bring two would refuse to choose.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("gateway: a crypto provider is installed already");
        return ExitCode::FAILURE;
    }
    run(Arguments::parse().command).unwrap_or_else(|error| fail(&error))
}

fn run(command: Command) -> Result<ExitCode, RunError> {
    match command {
        Command::Run { config, upgrade } => {
            app::run(&config, if upgrade { Start::TakingOver } else { Start::Afresh })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { config } => {
            app::check(&config)?;
            say(&format!("{}: sound\n", config.display()))
        }
        Command::Explain(explain) => tell(&explain.ask()?),
        Command::Test { config } => tell(&app::test(&config)?),
        Command::Routes { config, json } => tell(&app::routes(&config, json)?),
        Command::Health { config, live } => {
            app::health(&config, live)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Manual => say(&app::manual()),
        Command::Errors => say(&common::code::manual()),
        Command::Schema => say(&format!("{:#}\n", app::schema())),
        Command::Key(KeyCommand::New { subject, name, permissions, roles, days }) => {
            let made = app::new_key(&subject, &name, &permissions, &roles, days);
            let code = say(&made.entry)?;
            eprintln!("The key, shown once: {}", made.key);
            Ok(code)
        }
        Command::Certificate { names, out } => {
            app::certificate(names, &out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
