//! Tunnel: the connection to a server that a WebSocket is to run over.
//!
//! For: one pause. May touch: the socket beneath Pingora. Promises: after a write, the first look for something to read finds
//! nothing once, and then whatever is there.
//!
//! Why: Pingora 0.9.1 waits at the same time for the end of the request's body, which it has queued itself, and for the answer,
//! and takes either first. When it takes `101 Switching Protocols` first, it takes the end of the body for the end of the tunnel
//! and closes it. A server that answers at once loses one WebSocket in thirty by that, on a busy machine. The pause lets the
//! end of the body go first; `gateway/tests/journey/endurance.rs` opens five hundred.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::Result;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::dial;

/// Opens such connections.
#[derive(Debug)]
pub(super) struct Tunnels;

#[async_trait]
impl Connect for Tunnels {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket = Pausing { stream: dial(address).await?, wrote: false };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

/// A socket that pauses once between a write and a read.
#[derive(Debug)]
struct Pausing<S> {
    stream: S,
    wrote: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Pausing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pausing<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wrote = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug> VirtualSocket for Pausing<S> {
    /// What there is to set was set when it was opened.
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}
