//! Taker: the new process, which takes the place of the running one.
//!
//! For: `gateway run --upgrade`. May touch: the upgrade socket of the running process. Promises: what it was given is either
//! served or closed; it says that it serves only when told so, and after that it goes on also where the old process is gone.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::UnixStream;

use super::wire::Wire;
use super::{
    ANSWER_WITHIN, Handed, HandoverError, Inherited, READY, SHOWN_CHARS_MAX, SOCKETS_MAX, YOURS, check_greeting,
    greeting, place,
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
            sockets.push(Handed { name: name.into(), bind, local, socket: wire.receive().await? });
        }
        Ok((Self { wire }, Inherited(sockets)))
    }

    /// Says that this process serves. Then the place is this one's.
    ///
    /// # Errors
    /// When the old process has changed its mind, as it waits only so long: it goes on then, and this one must not.
    pub(crate) async fn relieve(mut self) -> Result<(), HandoverError> {
        let answered = match self.wire.say(READY).await {
            Ok(()) => answer(&mut self.wire).await,
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
