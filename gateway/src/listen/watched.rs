//! Watched: a client's socket, with a deadline for the head of a request, and one for the whole.
//!
//! For: the layer between the socket and TLS or HTTP, and what Pingora hands out with a connection. Reads and writes pass through.
//! Promises: a head that began to arrive is complete within its time, or the connection ends; once a request has had its time,
//! nothing more is read. Read next: `base/head_clock.rs`, `base/request_end.rs`, `buffered.rs`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use common::clock::{Clock as _, SystemClock};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::base::connection_notes::ConnectionNotes;
use crate::base::head_clock::AwaitedHead;

/// A socket that knows what its client is given time for.
#[derive(Debug)]
pub(super) struct Watched {
    socket: TcpStream,
    beside: Beside,
    notes: Arc<ConnectionNotes>,
    head: Option<BegunHead>,
    head_limit: HeadLimit,
    /// The end that the timer is for, in steady nanoseconds. Set up only for requests that have one.
    end_timer: Option<(u64, Pin<Box<Sleep>>)>,
}

/// What Pingora hands out with a connection: its addresses, and the place for data of one's own.
#[derive(Debug)]
pub(super) struct Beside {
    pub socket: Option<Arc<SocketDigest>>,
    pub proxy: Option<Arc<ProxyDigest>>,
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
    /// Set up only when the head did not come in one piece, which is rare: with the next read, which follows at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(socket: TcpStream, beside: Beside, notes: Arc<ConnectionNotes>, head_limit: HeadLimit) -> Self {
        Self { socket, beside, notes, head: None, head_limit, end_timer: None }
    }

    /// Whether the head that is being read is late. Wakes the task when it becomes so.
    fn is_late(&mut self, awaited: AwaitedHead, cx: &mut Context<'_>) -> bool {
        let timeout = self.head_limit.timeout;
        let Some(head) = self.head.as_mut().filter(|head| head.which == awaited) else { return false };
        let timer = head.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Whether the request under way has had its time. Wakes the task when it has.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ends_ns) = self.notes.end.ends_ns() else {
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
        if self.head.as_ref().is_none_or(|head| head.which != awaited) && !self.notes.clock.may_be_body() {
            self.head = Some(BegunHead { which: awaited, timer: None });
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let awaited = self.notes.clock.awaited();
        if awaited.is_some_and(|awaited| self.is_late(awaited, cx)) {
            self.head_limit.exceeded.inc();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if let Some(awaited) = awaited
            && buffer.filled().len() > before
        {
            self.note_begun(awaited);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
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
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Watched {
    async fn shutdown(&mut self) {
        // The other side is often gone already; there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(&mut self.socket).await;
    }
}

impl UniqueID for Watched {
    fn id(&self) -> UniqueIDType {
        self.socket.as_raw_fd()
    }
}

impl Ssl for Watched {}

/// Whether a client speaks HTTP/2 is told by TLS alone.
impl Peek for Watched {}

impl GetTimingDigest for Watched {
    /// Asked for with each request, and read by nobody: an empty list takes no memory.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Watched {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.beside.proxy.clone()
    }
}

impl GetSocketDigest for Watched {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.beside.socket.clone()
    }
}
