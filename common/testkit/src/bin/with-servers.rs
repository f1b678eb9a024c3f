//! With servers: runs a command beside a Postgres and a Redis that are started for it.
//!
//! For: `make test`, which runs the backend's tests on them as well. May touch: the servers, and the command it is given.
//! Promises: the command finds the servers' addresses in `BACKEND_TEST_POSTGRES` and `BACKEND_TEST_REDIS`; its exit code
//! is passed on; the servers end when it has ended, also after a signal.
//! Read next: `../postgres.rs`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use testkit::postgres::{self, Postgres};
use testkit::redis::{self, Redis};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Many tests run at the same time on a large machine, each with up to three programs of 16 connections.
const CONNECTIONS: &str = "max_connections=1000";

/// How long between two looks whether the command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// What did not work is not the command's doing.
const EXIT_FAILURE: u8 = 1;

/// What a shell adds to the number of the signal that ended a command.
const SIGNAL_EXIT: i32 = 128;

/// The signals that would end this program before its servers.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with-servers PROGRAM [ARGUMENT]...");
        return ExitCode::from(EXIT_USAGE);
    };
    // Before there are servers to leave behind.
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("with-servers: signals cannot be caught: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let (postgres, redis) = tokio::join!(Postgres::start_with(&[CONNECTIONS]), Redis::start());
    let mut command = Command::new(program);
    command.args(words).env(postgres::VARIABLE, postgres.url("postgres")).env(redis::VARIABLE, redis.url());
    ExitCode::from(run(command, &mut signals).await)
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Runs the command to its end, which takes as long as it takes; returns what to exit with.
async fn run(mut command: Command, signals: &mut Signals) -> u8 {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("with-servers: {} does not start: {error}", command.get_program().display());
            return EXIT_FAILURE;
        }
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return code_of(status),
            Ok(None) => {}
            Err(error) => {
                eprintln!("with-servers: the command cannot be waited for: {error}");
                return EXIT_FAILURE;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = signals.terminate.recv() => terminate(&child),
            // A terminal sends these to the command as well, which ends when it sees fit.
            _ = signals.interrupt.recv() => {}
            _ = signals.hang_up.recv() => {}
        }
    }
}

/// Passes on that it is to end.
fn terminate(child: &Child) {
    if !testkit::process::signal(child.id(), "TERM") {
        eprintln!("with-servers: the command takes no SIGTERM");
    }
}

/// Its own code; where a signal has ended it, what a shell says.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNAL_EXIT + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_commands_exit_code_is_passed_on() {
        let mut signals = Signals::catch().expect("signals can be caught");
        for (script, code) in [("true", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            assert_eq!(run(command, &mut signals).await, code, "{script}");
        }
        assert_eq!(run(Command::new("/nowhere/to/be/found"), &mut signals).await, EXIT_FAILURE);
    }
}
