//! Handover: how a new process takes the listening sockets of the running one.
//!
//! For: `gateway run --upgrade`. May touch: the Unix socket at `server.upgrade_socket`. Promises: the sockets are shared, never
//! closed in between, so that no connection is refused and none in a queue is lost; whatever goes wrong before the new process
//! has said that it serves leaves the old one as it was; only the same user, or root, is answered and believed; a socket is
//! taken only where it listens on the address it came under; each answer is waited for with a deadline.
//!
//! The talk is in lines; descriptors travel beside a byte of their own (`SCM_RIGHTS`):
//!
//! | new | old |
//! |---|---|
//! | `gateway-upgrade 1` | |
//! | | `gateway-upgrade 1`, `sockets N`, and N times: `NAME BIND LOCAL`, a descriptor |
//! | `ready`, once it serves | |
//! | | `yours` |
//!
//! In place of its answer the old one may say `no REASON` and hang up.
//! Read next: `giver.rs` for the old one's side, `taker.rs` for the new one's, `place.rs` for the file.

mod giver;
mod place;
mod taker;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::socket_acceptconn;
use tokio::net::TcpListener;

pub(crate) use giver::{Ask, give};
pub(crate) use place::Place;
pub(crate) use taker::Predecessor;

/// The version of the talk. Another one is refused on both sides.
const VERSION: u32 = 1;

/// What the first line of both sides begins with.
const GREETING: &str = "gateway-upgrade";

/// The new one says that it serves.
const READY: &str = "ready";

/// The old one gives up its place.
const YOURS: &str = "yours";

/// How long either side may take for a line that it can write at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the old one waits for the new one to serve.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// The user who may do everything.
const ROOT: u32 = 0;

/// Sockets that are handed over at most. A configuration has a listener for each.
const SOCKETS_MAX: usize = 1024;

/// Characters of a line that are shown when it is not what was expected.
const SHOWN_CHARS_MAX: usize = 64;

/// A listening socket on its way from one process to the next.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The listener's.
    pub name: Arc<str>,
    /// As configured; the port may be 0.
    pub bind: SocketAddr,
    /// Where it listens.
    pub local: SocketAddr,
    pub socket: OwnedFd,
}

/// The sockets that came from the process before; none for a process that starts afresh.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<Handed>);

/// Why nothing was handed over. The old process goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("--upgrade needs server.upgrade_socket, in the configuration of the running gateway too")]
    NotConfigured,
    #[error("no gateway listens on {} to hand over; to start one, leave --upgrade out", .path.display())]
    NobodyThere { path: PathBuf, source: io::Error },
    #[error("another gateway listens on {}; to take over from it, use --upgrade", .0.display())]
    Taken(PathBuf),
    #[error("server.upgrade_socket is {}, which is there and no socket", .0.display())]
    NotASocket(PathBuf),
    #[error("the upgrade socket {} cannot be used", .path.display())]
    Place { path: PathBuf, source: io::Error },
    #[error("the other side speaks {theirs:?} and this one {ours:?}: it cannot be upgraded in place, restart it", ours = greeting())]
    Version { theirs: String },
    #[error("process {process} of user {user} may not take over")]
    Stranger { process: i32, user: u32 },
    #[error("user {user} listens on {}, and is not believed", .path.display())]
    Impostor { path: PathBuf, user: u32 },
    #[error("what came for {0} is no socket that listens there")]
    OtherSocket(SocketAddr),
    #[error("the running gateway refused: {0}")]
    Refused(String),
    #[error("{0:?} was not expected")]
    Unexpected(String),
    #[error("the other side did not {0} in time")]
    Late(&'static str),
    #[error("the running gateway is ending already")]
    Ending,
    #[error("key sets and withdrawals could not all be fetched in {0:?}; the running gateway goes on")]
    Unsettled(Duration),
    #[error("ended by {0} before it served; the running gateway goes on")]
    Interrupted(&'static str),
    #[error("the talk broke off")]
    Broken(#[from] io::Error),
}

impl Handed {
    /// What came under this name, when it is what it was said to be.
    fn as_announced(name: &str, bind: SocketAddr, local: SocketAddr, socket: OwnedFd) -> Result<Self, HandoverError> {
        // What is no socket, or one of another family, is an error of the system's here.
        let listens = socket_acceptconn(&socket).unwrap_or(false);
        let socket = std::net::TcpListener::from(socket);
        if !listens || socket.local_addr().ok() != Some(local) {
            return Err(HandoverError::OtherSocket(local));
        }
        Ok(Self { name: name.into(), bind, local, socket: socket.into() })
    }

    /// A second handle of the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let (name, socket) = (Arc::clone(&self.name), self.socket.try_clone()?);
        Ok(Self { name, bind: self.bind, local: self.local, socket })
    }
}

impl Inherited {
    /// The socket for a listener, if it came: one at exactly this address, or, where the system chose the port, the one of
    /// the same listener.
    pub(crate) fn take(&mut self, name: &str, bind: SocketAddr) -> io::Result<Option<TcpListener>> {
        let fits = |handed: &Handed| handed.local == bind || (handed.bind == bind && *handed.name == *name);
        let Some(at) = self.0.iter().position(fits) else { return Ok(None) };
        let socket = std::net::TcpListener::from(self.0.swap_remove(at).socket);
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Some)
    }
}

/// What the first line of both sides must be.
fn greeting() -> String {
    format!("{GREETING} {VERSION}")
}

/// Whether the other side speaks the same version.
fn check_greeting(line: &str) -> Result<(), HandoverError> {
    if line == greeting() {
        return Ok(());
    }
    Err(HandoverError::Version { theirs: line.chars().take(SHOWN_CHARS_MAX).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(name: &str, bind: &str, socket: std::net::TcpListener) -> Handed {
        let local = socket.local_addr().expect("bound");
        Handed { name: name.into(), bind: bind.parse().expect("an address"), local, socket: socket.into() }
    }

    #[tokio::test]
    async fn a_socket_is_found_by_its_address_or_where_the_port_is_chosen_by_its_name() {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (first, second) = (bind(), bind());
        let (one, two) = (first.local_addr().expect("bound"), second.local_addr().expect("bound"));
        let mut inherited = Inherited(vec![handed("a", "127.0.0.1:0", first), handed("b", &two.to_string(), second)]);
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        assert!(
            inherited.take("other", any).expect("no error").is_none(),
            "another listener wants a port of its own"
        );
        let found = inherited.take("a", any).expect("no error").expect("the same listener");
        assert_eq!(found.local_addr().expect("bound"), one);
        let found = inherited.take("renamed", two).expect("no error").expect("the same address");
        assert_eq!(found.local_addr().expect("bound"), two);
        assert!(inherited.take("a", one).expect("no error").is_none(), "each is given once");
    }
}
