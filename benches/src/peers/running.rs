//! Running: a program that listens.
//!
//! For: `peers.rs`. May touch: processes it started, by their own id only.
//! Promises: it answers before it is handed out, and ends when its value goes.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::wait::{PATIENCE, until};

/// How long an answer may take that only shows that there is one.
const ANSWER: Duration = Duration::from_secs(1);

/// A program that runs until its value goes.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it, and waits until it listens on all of these, and answers in the clear on the first; what it says goes to a
    /// file.
    pub(super) async fn start(mut command: Command, said: &Path, ports: &[SocketAddr]) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(said).expect("a temporary folder can be written"));
        let mut running = Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        until("it answers", PATIENCE, async || {
            let ended = running.0.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{command:?}: {}", fs::read_to_string(said).unwrap_or_default());
            (ports.iter().all(|port| TcpStream::connect(port).is_ok()) && answers(ports[0])).then_some(())
        })
        .await;
        running
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

/// Some listen before they know their routes.
fn answers(address: SocketAddr) -> bool {
    let mut head = [0; 12];
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        stream.read_exact(&mut head)
    });
    asked.is_ok() && head.ends_with(b" 200")
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM: a master ends its workers then, which a killed one cannot. All of the peers end at it.
        if !testkit::process::signal(self.0.id(), "TERM") {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}
