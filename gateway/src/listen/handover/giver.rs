//! Giver: the running process, asked to hand its sockets over.
//!
//! For: everybody who connects to the upgrade socket, one after the other. May touch: second handles of the listening
//! sockets. Promises: until the other side has said that it serves, nothing changes here; then the process in charge is told
//! to leave, once.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use common::telemetry::with_causes;
use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::place::Place;
use super::wire::Wire;
use super::{
    ANSWER_WITHIN, Handed, HandoverError, READY, READY_WITHIN, ROOT, SHOWN_CHARS_MAX, YOURS, check_greeting, greeting,
};

/// How long to wait after `accept` failed for want of descriptors or memory, before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the process in charge is asked for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Second handles of the sockets that listen.
    Sockets(oneshot::Sender<io::Result<Vec<Handed>>>),
    /// To leave: another process serves.
    Leave {
        /// The id of that process; 0 where it cannot be told.
        process: i32,
    },
}

/// Answers whoever wants to take over, one at a time, until somebody has.
pub(crate) async fn give(mut place: Place, asks: mpsc::Sender<Ask>) {
    loop {
        let stream = match place.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, "the upgrade socket does not accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match hand_over(stream, &asks).await {
            Ok(Some(process)) => {
                place.leave();
                // Nobody hears it where the process is ending already.
                let _ = asks.send(Ask::Leave { process }).await;
                return;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "not handed over; this process goes on");
            }
        }
    }
}

/// The id of the process that has taken over. `None` for one that only looked whether somebody is here.
async fn hand_over(stream: UnixStream, asks: &mpsc::Sender<Ask>) -> Result<Option<i32>, HandoverError> {
    let peer = stream.peer_cred()?;
    let (process, user) = (peer.pid().unwrap_or_default(), peer.uid());
    let mut wire = Wire::new(stream);
    let outcome = match wire.hear(ANSWER_WITHIN, "say what it wants").await {
        Err(HandoverError::Broken(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => Err(error),
        Ok(_) if !may_take_over(user, geteuid().as_raw()) => Err(HandoverError::Stranger { process, user }),
        Ok(line) => talk(&line, &mut wire, process, asks).await,
    };
    if let Err(error) = &outcome {
        // It may have hung up, which is then the error itself.
        let _ = wire.say(&format!("no {error}")).await;
    }
    outcome.map(|()| Some(process))
}

fn may_take_over(user: u32, own: u32) -> bool {
    user == ROOT || user == own
}

async fn talk(line: &str, wire: &mut Wire, process: i32, asks: &mpsc::Sender<Ask>) -> Result<(), HandoverError> {
    check_greeting(line)?;
    tracing::info!(process, "asked to hand over");
    let sockets = sockets(asks).await?;
    wire.say(&greeting()).await?;
    wire.say(&format!("sockets {}", sockets.len())).await?;
    for handed in &sockets {
        wire.say(&format!("{} {} {}", handed.name, handed.bind, handed.local)).await?;
        wire.send(handed.socket.as_fd()).await?;
    }
    // Kept any longer, they would keep a listener open that a reload closes meanwhile.
    drop(sockets);
    let line = wire.hear(READY_WITHIN, "serve").await?;
    if line != READY {
        return Err(HandoverError::Unexpected(line.chars().take(SHOWN_CHARS_MAX).collect()));
    }
    wire.say(YOURS).await
}

async fn sockets(asks: &mpsc::Sender<Ask>) -> Result<Vec<Handed>, HandoverError> {
    let (answer, sockets) = oneshot::channel();
    asks.send(Ask::Sockets(answer)).await.map_err(|_| HandoverError::Ending)?;
    match timeout(ANSWER_WITHIN, sockets).await {
        Ok(Ok(sockets)) => Ok(sockets?),
        Ok(Err(_)) => Err(HandoverError::Ending),
        Err(_) => Err(HandoverError::Late("give its sockets")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::taker::Predecessor;
    use super::*;

    /// A running process with one socket, and the file by which it is found.
    struct Running {
        folder: tempfile::TempDir,
        asked: mpsc::Receiver<Ask>,
        socket: std::net::TcpListener,
    }

    impl Running {
        fn start() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (asks, asked) = mpsc::channel(1);
            let mut place = Place::beside(&folder.path().join("upgrade.sock")).expect("bound");
            place.open().expect("opened");
            tokio::spawn(give(place, asks));
            let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            Self { folder, asked, socket }
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("upgrade.sock")
        }

        async fn give_sockets(&mut self) {
            let Some(Ask::Sockets(answer)) = self.asked.recv().await else { panic!("sockets are asked for") };
            let local = self.socket.local_addr().expect("bound");
            let socket = self.socket.try_clone().expect("a second handle").into();
            answer
                .send(Ok(vec![Handed { name: "http".into(), bind: local, local, socket }]))
                .expect("somebody waits");
        }
    }

    #[tokio::test]
    async fn sockets_go_first_and_the_old_one_when_the_new_one_serves() {
        let mut running = Running::start();
        let path = running.path();
        let (met, ()) = tokio::join!(Predecessor::meet(&path), running.give_sockets());
        let (predecessor, mut inherited) = met.expect("handed over");
        assert!(running.asked.try_recv().is_err(), "not yet");
        let local = running.socket.local_addr().expect("bound");
        let taken = inherited.take("http", local).expect("no error").expect("the socket");
        assert_eq!(taken.local_addr().expect("bound"), local);
        predecessor.relieve().await.expect("relieved");
        let own = i32::try_from(std::process::id()).expect("an id");
        assert!(matches!(running.asked.recv().await, Some(Ask::Leave { process }) if process == own));
        assert!(path.exists(), "the file is the successor's affair");
    }

    #[tokio::test]
    async fn one_that_leaves_before_it_serves_changes_nothing() {
        let mut running = Running::start();
        let path = running.path();
        for _ in 0..2 {
            let (met, ()) = tokio::join!(Predecessor::meet(&path), running.give_sockets());
            drop(met.expect("handed over"));
        }
        assert!(running.asked.try_recv().is_err(), "nobody is told to leave");
    }

    #[tokio::test]
    async fn another_version_is_refused_with_both_named() {
        let running = Running::start();
        let mut wire = Wire::new(UnixStream::connect(running.path()).await.expect("found"));
        wire.say("gateway-upgrade 2").await.expect("said");
        let answer = wire.hear(ANSWER_WITHIN, "answer").await.expect("a line");
        assert!(
            answer.starts_with("no ") && answer.contains("upgrade 2") && answer.contains("upgrade 1"),
            "{answer}"
        );
    }

    #[test]
    fn only_the_same_user_and_root_may_take_over() {
        assert!(may_take_over(7, 7) && may_take_over(ROOT, 7) && !may_take_over(8, 7) && !may_take_over(8, ROOT));
    }
}
