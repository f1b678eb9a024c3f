//! Redis: a real server of the test's own, which can be killed and come back.
//!
//! For: everything that is shared by Redis. May touch: the `redis-server` program (Debian's `redis-server`), a temporary
//! folder. Promises: nothing is written to disk, so that a restart is a loss of everything; the server ends with the value.
//! Read next: `process.rs`.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Program;
use crate::wait::{PATIENCE, until};

/// The variable by which `with-servers` tells a server's address to what it runs.
pub const VARIABLE: &str = "BACKEND_TEST_REDIS";

/// A server.
pub struct Redis {
    program: Option<Program>,
    address: SocketAddr,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments, such as `--requirepass`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self {
            program: None,
            address: free_address(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        redis.restart().await;
        redis
    }

    /// Starts a sentinel from a file of settings that says what it monitors.
    pub async fn start_sentinel(file: &Path) -> Self {
        let address = free_address();
        let said = std::fs::read_to_string(file).expect("the sentinel's settings");
        std::fs::write(file, format!("port {}\nbind 127.0.0.1\n{said}", address.port()))
            .expect("they can be written");
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--sentinel");
        let program = Program::start("redis-sentinel", command, "");
        until("redis-sentinel answers", PATIENCE, async || answers(address).then_some(())).await;
        Self { program: Some(program), address, arguments: Vec::new() }
    }

    /// Sends it a command, and returns what it answers as it came (RESP).
    pub fn command(&self, words: &[&str]) -> String {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            // Writing to a String cannot fail.
            let _ = write!(text, "${}\r\n{word}\r\n", word.len());
        }
        let mut stream = TcpStream::connect(self.address).expect("redis-server takes a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout can be set");
        stream.write_all(text.as_bytes()).expect("redis-server takes a command");
        let mut answer = vec![0; 64 * 1024];
        let length = stream.read(&mut answer).expect("redis-server answers");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills it, without a word to anybody.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Stops it from running, so that it takes connections and answers nothing, until `thaw`.
    pub fn freeze(&self) {
        self.running().signal("STOP");
    }

    /// Lets it run on.
    pub fn thaw(&self) {
        self.running().signal("CONT");
    }

    /// Starts it again where it was, empty, and waits until it answers.
    pub async fn restart(&mut self) {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ]);
        command.args(&self.arguments);
        self.program = Some(Program::start("redis-server", command, ""));
        let address = self.address;
        until("redis-server answers", PATIENCE, async || answers(address).then_some(())).await;
    }

    fn running(&self) -> &Program {
        self.program.as_ref().expect("it was not killed")
    }
}

/// An address that is free now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// Whether somebody there speaks Redis' protocol. One who asks for a password, or for TLS, counts as well.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else { return false };
    let mut reply = [0; 1];
    let asked = stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .and_then(|()| stream.write_all(b"PING\r\n"))
        .and_then(|()| stream.read(&mut reply));
    asked.is_ok()
}
