//! Telemetry: how both programs write their own log.
//!
//! For: one line of JSON an event on standard error (or readable text for a person at a terminal).
//! May touch: standard error, `tracing`. Promises: the request path never waits here for the access log, which the
//! gateway writes to standard output from a thread of its own. Read next: each program's own event list.

use std::fmt;
use std::str::FromStr;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for the writer.
const QUEUE_LINES_MAX: usize = 16 * 1024;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// Short text, for a person.
    Text,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    /// The filter is not in `tracing`'s directive syntax.
    #[error("log filter {filter:?} is not valid: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser said.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A log was set up before.
    #[error("the log is set up already: {0}")]
    Twice(Box<dyn std::error::Error + Send + Sync>),
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("log format {other:?} is not known: json or text")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// An error with all its causes in one line: what a log needs, and what a client must not see.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether a filter is one that `init` takes.
///
/// # Errors
/// When it does not parse.
pub fn check_filter(filter: &str) -> Result<(), LogSetupError> {
    parse_filter(filter).map(drop)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogSetupError> {
    EnvFilter::try_new(filter).map_err(|source| LogSetupError::Filter { filter: filter.to_owned(), source })
}

/// Keeps the log's writer alive. Dropping it writes what is left; hold it until the process ends.
#[must_use]
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Sets up the process's log. `filter` is in `tracing`'s directive syntax, such as `info,pingora_core=off`. Lines are
/// written by a thread of their own: when nobody reads standard error, lines are lost and the program goes on.
///
/// # Errors
/// When the filter does not parse, or a log was set up before.
pub fn init(filter: &str, format: LogFormat) -> Result<LogGuard, LogSetupError> {
    let parsed = parse_filter(filter)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(writer);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_target(false).with_ansi(false).try_init(),
    }
    .map_err(LogSetupError::Twice)?;
    Ok(LogGuard(guard))
}
