//! Buffered: head and body of a small answer in one write to the socket, a deadline for the head of a request, and one for the whole.
//!
//! For: the layer between the socket and TLS or HTTP. Pingora writes an answer's head and body apart and then flushes; its
//! own listeners buffer that, in a way that is not open to others. Reads pass through: the layers above have buffers.
//! Promises: nothing stays here after a flush; what is larger than the buffer is written as it comes; a head that began to
//! arrive is complete within its time, or the connection ends; once a request has had its time, nothing more is read. Read next:
//! `base/head_clock.rs`, `base/request_end.rs`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use common::clock::{Clock as _, SystemClock};
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::base::connection_notes::ConnectionNotes;
use crate::base::head_clock::{AwaitedHead, HeadClock};
use crate::base::request_end::RequestEnd;

/// Bytes held for a connection: the head and body of a typical API answer, and few enough for 100,000 idle clients.
const BUFFER_BYTES: usize = 2048;

/// A socket with a buffer for writing.
#[derive(Debug)]
pub(super) struct Buffered {
    socket: BufWriter<TcpStream>,
    /// Off during the handshake: a TLS alert that ends it is written without a flush.
    on: Arc<AtomicBool>,
    clock: HeadClock,
    head: Option<BegunHead>,
    head_limit: HeadLimit,
    end: RequestEnd,
    /// The end that the timer is for, in steady nanoseconds. Set up only for requests that have one.
    end_timer: Option<(u64, Pin<Box<Sleep>>)>,
}

/// What a head may take, and who counts the ones that took longer.
#[derive(Clone, Debug)]
pub(super) struct HeadLimit {
    pub timeout: Duration,
    pub exceeded: IntCounter,
}

/// A head of which something has arrived.
#[derive(Debug)]
struct BegunHead {
    which: AwaitedHead,
    deadline: Instant,
    /// Set up only when the head did not come in one piece, which is rare.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Turns buffering on, once the handshake is over.
#[derive(Debug)]
pub(super) struct Switch(Arc<AtomicBool>);

impl Switch {
    pub(super) fn turn_on(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Buffered {
    pub(super) fn new(stream: TcpStream, notes: &ConnectionNotes, head_limit: HeadLimit) -> (Self, Switch) {
        let on = Arc::new(AtomicBool::new(false));
        let socket = BufWriter::with_capacity(BUFFER_BYTES, stream);
        let (clock, end) = (notes.clock.clone(), notes.end.clone());
        let buffered = Self { socket, on: Arc::clone(&on), clock, head: None, head_limit, end, end_timer: None };
        (buffered, Switch(on))
    }

    /// Whether the head that is being read is late. Wakes the task when it becomes so.
    fn is_late(&mut self, awaited: AwaitedHead, cx: &mut Context<'_>) -> bool {
        let Some(head) = self.head.as_mut().filter(|head| head.which == awaited) else { return false };
        let deadline = head.deadline;
        let timer = head.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Whether the request under way has had its time. Wakes the task when it has.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ends_ns) = self.end.ends_ns() else {
            self.end_timer = None;
            return false;
        };
        if self.end_timer.as_ref().is_none_or(|(known, _)| *known != ends_ns) {
            let left = Duration::from_nanos(ends_ns.saturating_sub(SystemClock.steady_ns()));
            self.end_timer = Some((ends_ns, Box::pin(tokio::time::sleep(left))));
        }
        self.end_timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready())
    }

    fn note_begun(&mut self, awaited: AwaitedHead) {
        if self.head.as_ref().is_none_or(|head| head.which != awaited) {
            let deadline = Instant::now() + self.head_limit.timeout;
            self.head = Some(BegunHead { which: awaited, deadline, timer: None });
        }
    }
}

impl AsyncRead for Buffered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let awaited = self.clock.awaited();
        if awaited.is_some_and(|awaited| self.is_late(awaited, cx)) {
            self.head_limit.exceeded.inc();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(self.socket.get_mut()).poll_read(cx, buffer);
        if let Some(awaited) = awaited
            && buffer.filled().len() > before
        {
            self.note_begun(awaited);
        }
        read
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.on.load(Ordering::Relaxed) {
            Pin::new(&mut self.socket).poll_write(cx, bytes)
        } else {
            Pin::new(self.socket.get_mut()).poll_write(cx, bytes)
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.on.load(Ordering::Relaxed) {
            Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
        } else {
            Pin::new(self.socket.get_mut()).poll_write_vectored(cx, slices)
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Buffered {
    async fn shutdown(&mut self) {
        // The other side is often gone already; there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(&mut self.socket).await;
    }
}

impl UniqueID for Buffered {
    fn id(&self) -> UniqueIDType {
        self.socket.get_ref().id()
    }
}

impl Ssl for Buffered {}

#[async_trait]
impl Peek for Buffered {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.socket.get_mut().try_peek(buffer).await
    }
}

impl GetTimingDigest for Buffered {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.socket.get_ref().get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.socket.get_ref().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.socket.get_ref().get_write_pending_time()
    }
}

impl GetProxyDigest for Buffered {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.socket.get_ref().get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.socket.get_mut().set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Buffered {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.socket.get_ref().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.socket.get_mut().set_socket_digest(digest);
    }
}
