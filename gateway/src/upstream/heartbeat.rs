//! Heartbeat: the connection to a server whose events are kept awake while it has nothing to say.
//!
//! For: one answer of server-sent events. May touch: the socket beneath Pingora. Promises: what the server sends passes as it
//! is; a beat stands only between two events of a stream in chunks; a server that is silent for too long is given up, beats
//! or not; nothing is put into any other answer.
//!
//! Why here: Pingora 0.9.1 asks its filters only when bytes have come, so that nobody could speak while a server is silent
//! (`docs/decisions/0007-heartbeats-beneath-http.md`). Read next: `event_stream.rs`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::Result;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::dial::dial;
use super::event_stream::Follower;

/// A comment, and the blank line that keeps it apart from what follows, in a chunk of its own. It is no event: a blank line
/// without fields before it does nothing (WHATWG HTML §9.2.6).
const BEAT: &[u8] = b"3\r\n:\n\n\r\n";

/// Opens such connections. Each is for one request: it follows one answer.
#[derive(Debug)]
pub(super) struct Heartbeats {
    /// How long a server is silent before a beat, and between two beats.
    pub every: Duration,
    /// How long it may be silent, beats or not.
    pub silence_max: Duration,
}

/// Why such a connection was given up. What Pingora would find out by its own timer, if beats did not set it back.
#[derive(Debug)]
pub(super) struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server was silent between two events for too long")
    }
}

impl std::error::Error for Silent {}

#[async_trait]
impl Connect for Heartbeats {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket = Beating::new(dial(address).await?, self.every, self.silence_max);
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

/// A socket that speaks up when the other side has been silent.
#[derive(Debug)]
struct Beating<S> {
    stream: S,
    every: Duration,
    silence_max: Duration,
    follower: Follower,
    /// What is still to be handed over of a beat. Nothing of the server's is looked at before.
    beat: &'static [u8],
    beat_at: Instant,
    silent_at: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<S> Beating<S> {
    fn new(stream: S, every: Duration, silence_max: Duration) -> Self {
        let now = Instant::now();
        let (beat_at, silent_at) = (now + every, now + silence_max);
        let alarm = Box::pin(sleep_until(beat_at));
        Self { stream, every, silence_max, follower: Follower::new(), beat: &[], beat_at, silent_at, alarm }
    }

    /// Takes in what the server has sent.
    fn hear(&mut self, bytes: &[u8]) {
        self.follower.follow(bytes);
        let now = Instant::now();
        (self.beat_at, self.silent_at) = (now + self.every, now + self.silence_max);
    }

    /// Waits until there is a beat to hand over.
    fn poll_beat(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let due = self.beat_at.min(self.silent_at);
        if self.alarm.deadline() != due {
            self.alarm.as_mut().reset(due);
        }
        ready!(self.alarm.as_mut().poll(context));
        if due == self.silent_at {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Silent)));
        }
        self.beat = BEAT;
        self.beat_at = Instant::now() + self.every;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Beating<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.beat.is_empty() {
            let filled = buffer.filled().len();
            match Pin::new(&mut this.stream).poll_read(context, buffer) {
                Poll::Ready(outcome) => {
                    outcome?;
                    this.hear(&buffer.filled()[filled..]);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending if !this.follower.stands_between_events() => return Poll::Pending,
                Poll::Pending => ready!(this.poll_beat(context))?,
            }
        }
        let (now, later) = this.beat.split_at(this.beat.len().min(buffer.remaining()));
        buffer.put_slice(now);
        this.beat = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beating<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug> VirtualSocket for Beating<S> {
    /// What there is to set was set when it was opened.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn silence_between_events_is_filled_and_silence_within_one_is_not() {
        let (mut server, socket) = duplex(4096);
        let mut socket = Beating::new(socket, SHORT, LONG);
        server.write_all(&[HEAD, b"9\r\ndata: 1\n\n\r\n"].concat()).await.expect("sent");
        let mut heard = vec![0; HEAD.len() + 14 + 2 * BEAT.len()];
        socket.read_exact(&mut heard).await.expect("the server's bytes, and two beats");
        assert!(
            heard.ends_with(&[&b"data: 1\n\n\r\n"[..], BEAT, BEAT].concat()),
            "{:?}",
            String::from_utf8_lossy(&heard)
        );

        server.write_all(b"8\r\ndata: 2\n\r\n").await.expect("sent");
        let mut heard = [0; 13];
        // A beat may have gone out before.
        while heard[0] != b'8' {
            socket.read_exact(&mut heard[..1]).await.expect("more");
            let rest = if heard[0] == b'8' { 13 } else { BEAT.len() };
            socket.read_exact(&mut heard[1..rest]).await.expect("the rest");
        }
        let mut byte = [0];
        let silence = tokio::time::timeout(5 * SHORT, socket.read(&mut byte)).await;
        assert!(silence.is_err(), "something came into an event: {silence:?}");
    }

    #[tokio::test]
    async fn a_beat_is_handed_over_in_pieces_and_goes_before_what_comes_behind_it() {
        let (mut server, socket) = duplex(4096);
        let mut socket = Beating::new(socket, SHORT, LONG);
        server.write_all(HEAD).await.expect("sent");
        let mut heard = vec![0; HEAD.len() + 1];
        socket.read_exact(&mut heard).await.expect("the head, and the first byte of a beat");
        server.write_all(b"0\r\n\r\n").await.expect("sent");
        let mut rest = vec![0; BEAT.len() - 1 + 5];
        socket.read_exact(&mut rest).await.expect("the rest");
        assert_eq!(rest, [&BEAT[1..], b"0\r\n\r\n"].concat());
    }

    #[tokio::test]
    async fn a_server_that_is_silent_for_too_long_is_given_up_though_beats_went_out() {
        let (mut server, socket) = duplex(4096);
        let mut socket = Beating::new(socket, SHORT, 10 * SHORT);
        server.write_all(HEAD).await.expect("sent");
        let mut heard = Vec::new();
        let error = socket.read_to_end(&mut heard).await.expect_err("an end to it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.get_ref().and_then(|cause| cause.downcast_ref::<Silent>()).is_some(), "{error:?}");
        let beats = &heard[HEAD.len()..];
        assert!(!beats.is_empty() && beats.chunks(BEAT.len()).all(|beat| beat == BEAT), "{beats:?}");
    }
}
