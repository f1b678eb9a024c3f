//! Health: how a program is asked whether it is well, by somebody on the same machine.
//!
//! For: the sub-command `health` of both programs, by which containers are checked. May touch: one TCP connection.
//! Promises: it ends within `PATIENCE`, reads no more than the status of the answer, and needs no async runtime.
//! Read next: nothing; the answers are those of the two programs.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long connection and answer may take together.
const PATIENCE: Duration = Duration::from_secs(4);

/// The part of an answer that is read: `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// What comes before the three digits.
const VERSION_BYTES: usize = 9;

/// The program is not well, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No answer came, or none in time.
    #[error("nobody answers on {address}: {source}")]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It answers with something else than success.
    #[error("{address} answers {status}")]
    Unwell {
        /// Who was asked.
        address: SocketAddr,
        /// The status, or what came in its place.
        status: String,
    },
}

/// Asks the program whose listener this is for a path, and is content with any 2xx.
///
/// # Errors
/// When no such answer comes in time.
pub fn ask(listener: SocketAddr, path: &str) -> Result<(), HealthError> {
    ask_within(listener, path, PATIENCE)
}

fn ask_within(listener: SocketAddr, path: &str, patience: Duration) -> Result<(), HealthError> {
    let address = reachable(listener);
    let head = status_of(address, path, Instant::now() + patience)
        .map_err(|source| HealthError::Silent { address, source })?;
    let status = head.strip_prefix(b"HTTP/1.").and_then(|_| head.get(VERSION_BYTES..));
    match status {
        Some([b'2', ..]) => Ok(()),
        other => {
            let status = String::from_utf8_lossy(other.unwrap_or(&head)).into_owned();
            Err(HealthError::Unwell { address, status })
        }
    }
}

fn status_of(address: SocketAddr, path: &str, until: Instant) -> io::Result<[u8; STATUS_BYTES]> {
    let mut stream = TcpStream::connect_timeout(&address, left(until)?)?;
    stream.set_write_timeout(Some(left(until)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; STATUS_BYTES];
    let mut filled = 0;
    while filled < STATUS_BYTES {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut head[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

/// What is left of the time, which is never nothing.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Where this machine reaches a listener: one on every address is found on the loopback.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks somebody who answers like this, and gives what came of it and the question that was heard.
    fn answered(answer: &'static [u8]) -> (Result<(), HealthError>, String) {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut question = [0; 1024];
            let read = stream.read(&mut question).expect("a question");
            stream.write_all(answer).expect("somebody reads");
            String::from_utf8_lossy(&question[..read]).into_owned()
        });
        let outcome = ask(address, "/health/ready");
        (outcome, server.join().expect("the server does not panic"))
    }

    #[test]
    fn any_success_is_well_and_nothing_else_is() {
        let (outcome, question) = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(question.starts_with("GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1:"), "{question}");
        assert!(answered(b"HTTP/1.0 204 No Content\r\n\r\n").0.is_ok());
        let (unwell, _) = answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert!(matches!(&unwell, Err(HealthError::Unwell { status, .. }) if status == "503"), "{unwell:?}");
        let (stranger, _) = answered(b"SSH-2.0-OpenSSH_9.2\r\n");
        assert!(matches!(stranger, Err(HealthError::Unwell { .. })), "{stranger:?}");
    }

    #[test]
    fn silence_ends_in_time() {
        let (cut, _) = answered(b"HTTP/1.1");
        assert!(matches!(cut, Err(HealthError::Silent { .. })), "{cut:?}");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        // It is never accepted, so nobody answers.
        let silent = ask_within(address, "/", Duration::from_millis(50));
        assert!(matches!(silent, Err(HealthError::Silent { .. })), "{silent:?}");
        drop(listener);
        assert!(matches!(ask(address, "/"), Err(HealthError::Silent { .. })));
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_the_loopback() {
        let cases = [
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("[::]:9901", "[::1]:9901"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
        ];
        for (listener, expected) in cases {
            assert_eq!(reachable(listener.parse().expect("an address")).to_string(), expected);
        }
    }
}
