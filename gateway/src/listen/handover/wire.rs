//! Wire: lines and descriptors over a Unix socket.
//!
//! For: both sides of a hand-over. May touch: one connection. Promises: a line is bounded, never read beyond its end, and
//! waited for with a deadline; a descriptor comes with exactly one byte, so that none is dropped by a read for something else.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ANSWER_WITHIN, HandoverError};

/// Bytes of one line: a name of 64 and two addresses are well below it.
const LINE_BYTES_MAX: usize = 512;

/// What travels beside a descriptor.
const MARK: [u8; 1] = *b".";

/// One side of the talk.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Says a line.
    pub(super) async fn say(&mut self, line: &str) -> Result<(), HandoverError> {
        let line = format!("{line}\n");
        match timeout(ANSWER_WITHIN, self.stream.write_all(line.as_bytes())).await {
            Ok(said) => Ok(said?),
            Err(_) => Err(HandoverError::Late("listen")),
        }
    }

    /// The next line, without its end.
    pub(super) async fn hear(&mut self, limit: Duration, what: &'static str) -> Result<String, HandoverError> {
        match timeout(limit, self.line()).await {
            Ok(line) => Ok(line?),
            Err(_) => Err(HandoverError::Late(what)),
        }
    }

    /// Byte by byte: a read for more could swallow a descriptor. There are few lines, and one of them a socket.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.stream.read_u8().await? {
                b'\n' => break,
                byte if line.len() < LINE_BYTES_MAX => line.push(byte),
                _ => return Err(invalid("a line is too long")),
            }
        }
        String::from_utf8(line).map_err(|_| invalid("a line is no text"))
    }

    /// Sends a second handle of a socket.
    pub(super) async fn send(&self, socket: BorrowedFd<'_>) -> Result<(), HandoverError> {
        let sent = self.stream.async_io(Interest::WRITABLE, || send(&self.stream, socket));
        match timeout(ANSWER_WITHIN, sent).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(HandoverError::Late("take a socket")),
        }
    }

    /// Receives a socket.
    pub(super) async fn receive(&self) -> Result<OwnedFd, HandoverError> {
        let received = self.stream.async_io(Interest::READABLE, || receive(&self.stream));
        match timeout(ANSWER_WITHIN, received).await {
            Ok(received) => Ok(received?),
            Err(_) => Err(HandoverError::Late("send a socket")),
        }
    }
}

fn send(stream: &UnixStream, socket: BorrowedFd<'_>) -> io::Result<()> {
    let sockets = [socket];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(invalid("there is no room for a descriptor"));
    }
    retry_on_intr(|| sendmsg(stream, &[IoSlice::new(&MARK)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut mark = [0_u8; MARK.len()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut mark)];
    let received = retry_on_intr(|| recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    socket.ok_or_else(|| invalid("a socket was announced and none came"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[tokio::test]
    async fn lines_and_sockets_arrive_in_their_order() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let (mut left, mut right) = (Wire::new(left), Wire::new(right));
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        for round in 0..3 {
            left.say(&format!("round {round}")).await.expect("said");
            left.send(socket.as_fd()).await.expect("sent");
        }
        left.say("end").await.expect("said");
        for round in 0..3 {
            let line = right.hear(ANSWER_WITHIN, "speak").await.expect("a line");
            assert_eq!(line, format!("round {round}"));
            let received = std::net::TcpListener::from(right.receive().await.expect("a socket"));
            assert_eq!(received.local_addr().expect("bound"), socket.local_addr().expect("bound"));
        }
        assert_eq!(right.hear(ANSWER_WITHIN, "speak").await.expect("a line"), "end");
    }

    #[tokio::test]
    async fn what_breaks_the_rules_is_an_error() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let (mut left, mut right) = (Wire::new(left), Wire::new(right));
        left.say(".").await.expect("said");
        let without = right.receive().await;
        assert!(matches!(&without, Err(HandoverError::Broken(error)) if error.kind() == io::ErrorKind::InvalidData));
        assert_eq!(right.hear(ANSWER_WITHIN, "speak").await.expect("the end of the line"), "");
        left.say(&"x".repeat(LINE_BYTES_MAX + 1)).await.expect("said");
        assert!(matches!(right.hear(ANSWER_WITHIN, "speak").await, Err(HandoverError::Broken(_))), "too long");
        let late = left.hear(Duration::from_millis(1), "speak").await;
        assert!(matches!(late, Err(HandoverError::Late("speak"))));
        drop(right);
        assert!(matches!(left.hear(ANSWER_WITHIN, "speak").await, Err(HandoverError::Broken(_))), "hung up");
    }
}
