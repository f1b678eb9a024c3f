//! Place: the Unix socket by which the next process finds this one.
//!
//! For: the file at `server.upgrade_socket`. May touch: that file, and one beside it. Promises: readable and writable by its
//! owner only before anybody can find it; it takes the place of an earlier one in a single step; the file of another
//! process that lives is never taken nor removed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::HandoverError;

/// Mode of the file.
const MODE: u32 = 0o600;

/// A bound socket and its file.
#[derive(Debug)]
pub(crate) struct Place {
    listener: UnixListener,
    /// Where it is to be found.
    path: PathBuf,
    /// Where its file is: beside `path` until it is open.
    at: PathBuf,
    /// Device and inode of the file, by which it is known from another process's.
    identity: (u64, u64),
    /// Whether the file is another process's affair by now.
    left: bool,
}

impl Place {
    /// Checks that no process that lives listens there. A file that a dead one left is no hindrance.
    ///
    /// # Errors
    /// When one does, or when something else than a socket is there.
    pub(crate) async fn check_free(path: &Path) -> Result<(), HandoverError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => {}
            Ok(_) => return Err(HandoverError::NotASocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unusable(path, error)),
        }
        match UnixStream::connect(path).await {
            Ok(_) => Err(HandoverError::Taken(path.to_owned())),
            Err(error) if is_nobody(&error) => Ok(()),
            Err(error) => Err(unusable(path, error)),
        }
    }

    /// Binds a file beside the path. Nobody finds it before it is opened.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn beside(path: &Path) -> Result<Self, HandoverError> {
        let mut at = path.as_os_str().to_owned();
        at.push(format!(".{}", std::process::id()));
        let at = PathBuf::from(at);
        match bind(&at) {
            Ok((listener, identity)) => Ok(Self { listener, path: path.to_owned(), at, identity, left: false }),
            Err(error) => Err(unusable(&at, error)),
        }
    }

    /// From now on it is found, in place of whatever was there.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(&mut self) -> Result<(), HandoverError> {
        fs::rename(&self.at, &self.path).map_err(|error| unusable(&self.path, error))?;
        self.at.clone_from(&self.path);
        Ok(())
    }

    /// The next one who connects.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// The file is the next process's affair.
    pub(super) fn leave(&mut self) {
        self.left = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.left || identity(&self.at).ok() != Some(self.identity) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.at) {
            tracing::warn!(file = %self.at.display(), %error, "the upgrade socket was not removed");
        }
    }
}

fn bind(at: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    // Of a process that had the same id and died, as ids come again. What is no socket stays, and nothing is bound there.
    if fs::symlink_metadata(at).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        fs::remove_file(at)?;
    }
    let listener = UnixListener::bind(at)?;
    fs::set_permissions(at, Permissions::from_mode(MODE))?;
    Ok((listener, identity(at)?))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether nobody listens there: no file, or one that a dead process left.
pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

pub(super) fn unusable(path: &Path, source: io::Error) -> HandoverError {
    HandoverError::Place { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_taken_while_its_owner_lives_and_its_file_goes_with_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        Place::check_free(&path).await.expect("nothing is there");
        let mut place = Place::beside(&path).expect("bound");
        assert!(!path.exists(), "not found before it is open");
        place.open().expect("opened");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, MODE);
        assert!(matches!(Place::check_free(&path).await, Err(HandoverError::Taken(_))));
        drop(place);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_is_no_socket_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        Place::check_free(&path).await.expect("nobody listens");
        let mut place = Place::beside(&path).expect("bound");
        place.open().expect("in place of the old file");
        UnixStream::connect(&path).await.expect("found");
        drop(place);
        fs::write(&path, "precious").expect("a file");
        assert!(matches!(Place::check_free(&path).await, Err(HandoverError::NotASocket(_))));
        let beside = folder.path().join(format!("upgrade.sock.{}", std::process::id()));
        fs::write(&beside, "precious").expect("a file");
        assert!(matches!(Place::beside(&path), Err(HandoverError::Place { .. })));
        assert_eq!(fs::read(&beside).expect("still there"), b"precious");
    }

    #[tokio::test]
    async fn the_file_of_a_successor_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("upgrade.sock");
        let mut place = Place::beside(&path).expect("bound");
        place.open().expect("opened");
        let successor = folder.path().join("next");
        let _listener = UnixListener::bind(&successor).expect("bound");
        fs::rename(&successor, &path).expect("renamed");
        drop(place);
        UnixStream::connect(&path).await.expect("still there");
    }
}
