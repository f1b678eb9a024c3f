//! Taker: the new process, which takes the place of the running one.
//!
//! For: `gateway run --upgrade`. May touch: the upgrade socket of the running process. Promises: what it was given is either
//! served or closed; it says that it serves only when told so, and after that it goes on also where the old process is gone, but
//! never beside one that has said no.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::wire::Wire;
use super::{
    ANSWER_WITHIN, Handed, HandoverError, Inherited, READY, ROOT, SHOWN_CHARS_MAX, SOCKETS_MAX, YOURS,
    check_greeting, greeting, place,
};

/// The running process, which still serves.
#[derive(Debug)]
pub(crate) struct Predecessor {
    wire: Wire,
}

impl Predecessor {
    /// Finds it by its socket, and receives what it listens on.
    ///
    /// # Errors
    /// When nobody is there, or it does not hand over.
    pub(crate) async fn meet(path: &Path) -> Result<(Self, Inherited), HandoverError> {
        let connected = UnixStream::connect(path).await;
        let stream = connected.map_err(|source| {
            if place::is_nobody(&source) {
                HandoverError::NobodyThere { path: path.to_owned(), source }
            } else {
                place::unusable(path, source)
            }
        })?;
        let user = stream.peer_cred()?.uid();
        if !is_believed(user, geteuid().as_raw()) {
            return Err(HandoverError::Impostor { path: path.to_owned(), user });
        }
        let mut wire = Wire::new(stream);
        wire.say(&greeting()).await?;
        check_greeting(&answer(&mut wire).await?)?;
        let line = answer(&mut wire).await?;
        let count = line.strip_prefix("sockets ").and_then(|count| count.parse::<usize>().ok());
        let count = count.filter(|count| *count <= SOCKETS_MAX).ok_or_else(|| unexpected(&line))?;
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let line = answer(&mut wire).await?;
            let (name, bind, local) = described(&line).ok_or_else(|| unexpected(&line))?;
            sockets.push(Handed::as_announced(name, bind, local, wire.receive().await?)?);
        }
        Ok((Self { wire }, Inherited(sockets)))
    }

    /// Says that this process serves. Then the place is this one's.
    ///
    /// # Errors
    /// When the old process has changed its mind, as it waits only so long: it goes on then, and this one must not.
    pub(crate) async fn relieve(mut self) -> Result<(), HandoverError> {
        let answered = match self.wire.say(READY).await {
            // One that has hung up may have said why before: that it waited long enough, and goes on.
            Ok(()) | Err(HandoverError::Broken(_)) => answer(&mut self.wire).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(line) if line == YOURS => Ok(()),
            Ok(line) => Err(unexpected(&line)),
            Err(HandoverError::Broken(error)) => {
                tracing::warn!(%error, "the gateway before this one ended by itself");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether sockets are taken from a process of this user. Root takes over from everybody, as it may do anyway.
fn is_believed(user: u32, own: u32) -> bool {
    user == ROOT || user == own || own == ROOT
}

/// What the old process says, unless that is no.
async fn answer(wire: &mut Wire) -> Result<String, HandoverError> {
    let line = wire.hear(ANSWER_WITHIN, "answer").await?;
    match line.strip_prefix("no ") {
        Some(reason) => Err(HandoverError::Refused(reason.to_owned())),
        None => Ok(line),
    }
}

/// `NAME BIND LOCAL`
fn described(line: &str) -> Option<(&str, SocketAddr, SocketAddr)> {
    let mut words = line.split(' ');
    let described = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(described)
}

fn unexpected(line: &str) -> HandoverError {
    HandoverError::Unexpected(line.chars().take(SHOWN_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, BorrowedFd};

    use tokio::net::UnixListener;

    use super::*;

    /// What meeting somebody who says these lines comes to.
    async fn met(lines: &[&str]) -> HandoverError {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let other = async {
            let (stream, _) = listener.accept().await.expect("somebody connects");
            let mut wire = Wire::new(stream);
            wire.hear(ANSWER_WITHIN, "greet").await.expect("a greeting");
            for line in lines {
                wire.say(line).await.expect("said");
            }
        };
        let (met, ()) = tokio::join!(Predecessor::meet(&path), other);
        met.expect_err("nothing was handed over")
    }

    #[tokio::test]
    async fn whatever_is_not_the_talk_is_an_error() {
        let greeting = greeting();
        assert!(matches!(met(&["no it is busy"]).await, HandoverError::Refused(why) if why == "it is busy"));
        assert!(
            matches!(met(&["gateway-upgrade 2"]).await, HandoverError::Version { theirs } if theirs.ends_with('2'))
        );
        assert!(matches!(met(&[]).await, HandoverError::Broken(_)));
        for line in ["sockets many", "sockets 1025", "hello"] {
            assert!(matches!(met(&[greeting.as_str(), line]).await, HandoverError::Unexpected(_)), "{line}");
        }
        for socket in ["http", "http 1.1.1.1:1", "http 1.1.1.1:1 here", "http 1.1.1.1:1 1.1.1.1:1 more"] {
            let error = met(&[greeting.as_str(), "sockets 1", socket]).await;
            assert!(matches!(error, HandoverError::Unexpected(_)), "{socket}");
        }
    }

    /// What meeting somebody comes to who hands this over as the socket at `local`.
    async fn handed(socket: BorrowedFd<'_>, local: SocketAddr) -> Result<(), HandoverError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let other = async {
            let (stream, _) = listener.accept().await.expect("somebody connects");
            let mut wire = Wire::new(stream);
            wire.hear(ANSWER_WITHIN, "greet").await.expect("a greeting");
            for line in [greeting(), "sockets 1".to_owned(), format!("http {local} {local}")] {
                wire.say(&line).await.expect("said");
            }
            wire.send(socket).await.expect("sent");
        };
        let (met, ()) = tokio::join!(Predecessor::meet(&path), other);
        met.map(|_| ())
    }

    #[tokio::test]
    async fn only_a_socket_that_listens_where_it_was_said_to_is_taken() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let here = listening.local_addr().expect("bound");
        handed(listening.as_fd(), here).await.expect("as announced");
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], here.port() ^ 1));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let connected = std::net::TcpStream::connect(here).expect("connected");
        let file = tempfile::tempfile().expect("a file");
        for (what, socket, local) in [
            ("another address", listening.as_fd(), elsewhere),
            ("another protocol", udp.as_fd(), udp.local_addr().expect("bound")),
            ("a connection", connected.as_fd(), connected.local_addr().expect("connected")),
            ("a file", file.as_fd(), here),
        ] {
            let refused = handed(socket, local).await.expect_err(what);
            assert!(matches!(refused, HandoverError::OtherSocket(at) if at == local), "{what}: {refused}");
        }
    }

    #[tokio::test]
    async fn one_that_has_said_no_is_not_taken_for_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        for (last, goes_on) in [(Some("no it took too long"), true), (None, false)] {
            let listener = UnixListener::bind(&path).expect("bound");
            let other = async {
                let (stream, _) = listener.accept().await.expect("somebody connects");
                let mut wire = Wire::new(stream);
                wire.hear(ANSWER_WITHIN, "greet").await.expect("a greeting");
                for line in [greeting().as_str(), "sockets 0"].into_iter().chain(last) {
                    wire.say(line).await.expect("said");
                }
            };
            // It has hung up by the time that this one is ready.
            let (met, ()) = tokio::join!(Predecessor::meet(&path), other);
            let (predecessor, _) = met.expect("handed over");
            match (predecessor.relieve().await, goes_on) {
                (Err(HandoverError::Refused(why)), true) => assert_eq!(why, "it took too long"),
                (Ok(()), false) => {}
                (outcome, _) => panic!("{last:?}: {outcome:?}"),
            }
            std::fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn only_the_same_user_and_root_are_believed() {
        assert!(is_believed(7, 7) && is_believed(ROOT, 7) && is_believed(8, ROOT) && !is_believed(8, 7));
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        let missed = Predecessor::meet(&path).await.expect_err("there is no file");
        assert!(matches!(missed, HandoverError::NobodyThere { .. }));
        drop(UnixListener::bind(&path).expect("bound"));
        let missed = Predecessor::meet(&path).await.expect_err("its process is dead");
        assert!(matches!(missed, HandoverError::NobodyThere { .. }));
        assert!(missed.to_string().contains("leave --upgrade out"), "{missed}");
    }
}
