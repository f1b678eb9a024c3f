//! Buffered: head and body of a small answer in one write, which is one record of TLS and one packet.
//!
//! For: the layer below HTTP, above TLS where there is any. Pingora writes an answer's head and body apart and then flushes; its own
//! listeners buffer that below TLS, in a way that is not open to others. Reads pass through: the layers around have buffers.
//! What Pingora answers by itself is said in our words (`no_request.rs`), and the first bytes of HTTP/2, which it would wait for
//! without end, are waited for here.
//! Promises: nothing stays here after a flush; what is larger than the buffer is written as it comes. Read next: `watched.rs`, the
//! socket below.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use prometheus::IntCounterVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};

use super::goaway::Goaway;
use super::no_request::NoRequest;

/// Bytes held for a connection: the head and body of a typical API answer, and few enough for 100,000 idle clients.
const BUFFER_BYTES: usize = 2048;

/// What a client of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// A stream with a buffer for writing.
#[derive(Debug)]
pub(super) struct Buffered<S> {
    stream: BufWriter<S>,
    no_request: NoRequest,
    goaway: Goaway,
    /// What was read ahead.
    ahead: [u8; PREFACE_BYTES],
    /// How much of it was handed out.
    handed_out: usize,
}

impl<S: IO> Buffered<S> {
    pub(super) fn new(stream: S, no_request: NoRequest) -> Self {
        let stream = BufWriter::with_capacity(BUFFER_BYTES, stream);
        let goaway = Goaway::uncounted();
        Self { stream, no_request, goaway, ahead: [0; PREFACE_BYTES], handed_out: PREFACE_BYTES }
    }

    /// Counts the end of this connection if it is for what its client did, as HTTP/2 tells.
    pub(super) fn count_end(&mut self, ended: IntCounterVec) {
        self.goaway = Goaway::counted(ended);
    }

    /// Reads the first bytes of HTTP/2 ahead. Whether they are right is for HTTP/2 to say.
    ///
    /// # Errors
    /// When the client leaves before it has sent them.
    pub(super) async fn read_preface(&mut self) -> io::Result<()> {
        self.stream.get_mut().read_exact(&mut self.ahead).await?;
        self.handed_out = 0;
        Ok(())
    }
}

impl<S: IO> AsyncRead for Buffered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(rest) = self.ahead.get(self.handed_out..).filter(|rest| !rest.is_empty()) {
            let bytes = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..bytes]);
            self.handed_out += bytes;
            return Poll::Ready(Ok(()));
        }
        Pin::new(self.stream.get_mut()).poll_read(cx, buffer)
    }
}

impl<S: IO> AsyncWrite for Buffered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, no_request, goaway, .. } = &mut *self;
        goaway.look(bytes);
        match no_request.in_place_of(bytes) {
            None => Pin::new(stream).poll_write(cx, bytes),
            // It is far smaller than the buffer, which takes it as a whole or not yet.
            Some(ours) => Pin::new(stream).poll_write(cx, ours).map_ok(|_| bytes.len()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        for slice in slices {
            self.goaway.look(slice);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl<S: IO> Shutdown for Buffered<S> {
    async fn shutdown(&mut self) {
        // The other side is often gone already; there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(&mut self.stream).await;
    }
}

impl<S: IO> UniqueID for Buffered<S> {
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().id()
    }
}

impl<S: IO> Ssl for Buffered<S> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ref().get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ref().get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.get_ref().selected_alpn_proto()
    }
}

/// Whether a client speaks HTTP/2 is told by TLS alone.
impl<S: IO> Peek for Buffered<S> {}

impl<S: IO> GetTimingDigest for Buffered<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_ref().get_timing_digest()
    }
}

impl<S: IO> GetProxyDigest for Buffered<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_ref().get_proxy_digest()
    }
}

impl<S: IO> GetSocketDigest for Buffered<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_ref().get_socket_digest()
    }
}
