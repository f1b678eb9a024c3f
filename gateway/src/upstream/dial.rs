//! Dial: a socket to a server that something of ours is put around, beneath Pingora.
//!
//! For: `tunnel.rs` and `heartbeat.rs`. May touch: the network. Promises: what is to be set on the socket is set here, and a
//! connection that does not come about is a `ConnectError`; the deadline is that of who asks.

use std::fmt::Debug;

use pingora::protocols::l4::socket::SocketAddr;
use pingora::{ErrorType, OrErr as _, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket, whatever its kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug> Wire for S {}

/// Opens one.
///
/// # Errors
/// When no connection comes about.
pub(super) async fn dial(address: &SocketAddr) -> Result<Box<dyn Wire>> {
    let failed = || format!("no connection to {address}");
    match address {
        SocketAddr::Inet(address) => {
            let stream = TcpStream::connect(address).await;
            let stream = stream.or_err_with(ErrorType::ConnectError, failed)?;
            stream.set_nodelay(true).or_err(ErrorType::ConnectError, "a socket without delay")?;
            Ok(Box::new(stream))
        }
        SocketAddr::Unix(address) => {
            let path = address.as_pathname().unwrap_or_else(|| std::path::Path::new(""));
            let stream = UnixStream::connect(path).await;
            Ok(Box::new(stream.or_err_with(ErrorType::ConnectError, failed)?))
        }
    }
}
