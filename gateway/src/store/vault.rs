//! Vault: where what belongs to ACME is kept: the account's key, certificates with their keys, and pending proofs.
//!
//! For: gateways that share certificates, by one folder or by Redis. May touch: the folder, the store. Promises: a record is
//! there whole or not at all; files are readable by their owner only; one gateway at a time holds a lease, and a lease ends
//! with its holder (in a folder) or with its time (in Redis); proofs that nobody has hidden go in time; strangers make it look for
//! a few proofs at a time only. Read next: `../acme/mod.rs`.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use redis::cmd;
use tokio::sync::Semaphore;

use super::{Away, Store};

/// The size of a record: a chain of certificates with its key has a few KiB.
const RECORD_BYTES_MAX: u64 = 256 * 1024;

/// The length of a token. Authorities use some 43 letters.
const TOKEN_BYTES_MAX: usize = 128;

/// How long a pending proof is kept: longer than any order takes.
const PROOF_KEPT: Duration = Duration::from_hours(1);

/// What the records of proofs begin with.
const PROOF: &str = "proof-";

/// Looks for a proof at a time. Anybody may ask, before any limit is looked at, and each look costs a thread and a question to
/// the store.
const LOOKS_MAX: usize = 8;

/// Gives a lease back, if it is still ours.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/// One place of certificates.
#[derive(Debug)]
pub(crate) struct Vault {
    folder: PathBuf,
    store: Option<Arc<Store>>,
    looks: Semaphore,
}

/// The right to order, until it is released.
#[derive(Debug)]
pub(crate) enum Lease {
    /// A lock on a file, which the system takes back from a process that has ended.
    Folder(File),
    /// A record that ends by itself.
    Shared { store: Arc<Store>, key: String, holder: String },
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("{path}")]
    Folder { path: String, source: io::Error },
    #[error("the store is away")]
    Away,
}

/// Whether a text can be the token of a proof (RFC 8555 §8.3). What is one is also safe in the name of a file.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Vault {
    /// A vault in this folder, and in the store where there is one.
    pub(crate) fn new(folder: PathBuf, store: Option<Arc<Store>>) -> Self {
        Self { folder, store, looks: Semaphore::new(LOOKS_MAX) }
    }

    /// Whether it is this place.
    pub(crate) fn is_at(&self, folder: &Path, store: Option<&Arc<Store>>) -> bool {
        let same_store = match (&self.store, store) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        };
        self.folder == folder && same_store
    }

    /// Every copy of a record: the one that is shared by Redis first, then that of the folder.
    ///
    /// # Errors
    /// When the folder cannot be read. A store that is away has no copy.
    pub(crate) async fn copies(&self, record: &str) -> Result<Vec<Vec<u8>>, VaultError> {
        let mut copies = Vec::with_capacity(2);
        if let Some(store) = &self.store
            && let Ok(Some(shared)) = store.query::<Option<Vec<u8>>>(cmd("GET").arg(key_of(store, record))).await
        {
            copies.push(shared);
        }
        let path = self.folder.join(record);
        copies.extend(in_background(path, read_file).await?);
        Ok(copies)
    }

    /// Writes a record, to the folder first.
    ///
    /// # Errors
    /// When the folder cannot be written, or the store is away; the folder has it all the same then.
    pub(crate) async fn write(&self, record: &str, bytes: Vec<u8>) -> Result<(), VaultError> {
        let shared = self.store.as_ref().map(|store| (store, bytes.clone()));
        in_background(self.folder.join(record), move |path| write_file(path, &bytes)).await?;
        let Some((store, bytes)) = shared else { return Ok(()) };
        let mut command = cmd("SET");
        command.arg(key_of(store, record)).arg(bytes.as_slice());
        store.query::<()>(&command).await.map_err(|Away| VaultError::Away)
    }

    /// Takes a record away.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn remove(&self, record: &str) -> Result<(), VaultError> {
        in_background(self.folder.join(record), |path| absent_is_fine(std::fs::remove_file(path))).await?;
        let Some(store) = &self.store else { return Ok(()) };
        store.query::<i64>(cmd("DEL").arg(key_of(store, record))).await.map(|_| ()).map_err(|Away| VaultError::Away)
    }

    /// Shows a proof to whoever asks for its token, at every gateway.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn show_proof(&self, token: &str, proof: &str) -> Result<(), VaultError> {
        let (record, bytes) = (proof_record(token), proof.as_bytes().to_vec());
        in_background(self.folder.join(&record), move |path| write_file(path, &bytes)).await?;
        if let Err(error) = in_background(self.folder.clone(), forget_old_proofs).await {
            tracing::warn!(error = %common::telemetry::with_causes(&error), "old proofs cannot be cleared away");
        }
        let Some(store) = &self.store else { return Ok(()) };
        let mut command = cmd("SET");
        command.arg(key_of(store, &record)).arg(proof).arg("EX").arg(PROOF_KEPT.as_secs());
        store.query::<()>(&command).await.map_err(|Away| VaultError::Away)
    }

    /// Shows a proof no longer.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn hide_proof(&self, token: &str) -> Result<(), VaultError> {
        self.remove(&proof_record(token)).await
    }

    /// The proof of a token, if one is pending.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) async fn proof(&self, token: &str) -> Result<Option<Vec<u8>>, VaultError> {
        if !is_token(token) {
            return Ok(None);
        }
        // Nobody closes it.
        let Ok(_look) = self.looks.acquire().await else { return Ok(None) };
        Ok(self.copies(&proof_record(token)).await?.into_iter().next())
    }

    /// The right to order, unless another has it: for so long in Redis, in a folder as long as the lease is held.
    ///
    /// # Errors
    /// When the folder cannot be written, or the store is away.
    pub(crate) async fn lease(&self, name: &str, time: Duration) -> Result<Option<Lease>, VaultError> {
        let record = format!("{name}.lock");
        let Some(store) = &self.store else {
            let lock = in_background(self.folder.join(record), lock_file).await?;
            return Ok(lock.map(Lease::Folder));
        };
        let (key, holder) = (key_of(store, &record), uuid::Uuid::now_v7().to_string());
        let mut command = cmd("SET");
        command.arg(&key).arg(&holder).arg("NX").arg("PX").arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let taken = store.query::<Option<String>>(&command).await.map_err(|Away| VaultError::Away)?;
        Ok(taken.map(|_| Lease::Shared { store: Arc::clone(store), key, holder }))
    }
}

impl Lease {
    /// Gives it back. One that cannot be given back ends with its time.
    pub(crate) async fn release(self) {
        match self {
            Self::Folder(file) => {
                if let Err(error) = file.unlock() {
                    tracing::debug!(%error, "a lock is given back by closing its file");
                }
            }
            Self::Shared { store, key, holder } => {
                let mut command = cmd("EVAL");
                command.arg(RELEASE).arg(1).arg(&key).arg(&holder);
                if store.query::<i64>(&command).await.is_err() {
                    tracing::debug!(%key, "a lease ends with its time, because the store is away");
                }
            }
        }
    }
}

fn proof_record(token: &str) -> String {
    format!("{PROOF}{token}")
}

fn key_of(store: &Store, record: &str) -> String {
    format!("{}:acme:{record}", store.prefix())
}

/// Files are read and written off the threads that serve.
async fn in_background<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, VaultError> {
    let shown = path.display().to_string();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| VaultError::Folder { path: shown, source })
}

fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than any record"));
    }
    Ok(Some(bytes))
}

/// Writes beside and renames, so that a reader sees the old or the new, and a crash leaves the old.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_folder(path)?;
    let beside = path.with_extension(format!("{}.tmp", uuid::Uuid::now_v7().simple()));
    let written = write_new(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What went wrong is told; that nothing is left of it is only tidy.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes proofs that an order which was cut short has left. No certificate is called like a proof: its name has a dot.
fn forget_old_proofs(folder: &Path) -> io::Result<()> {
    let Some(before) = SystemTime::now().checked_sub(PROOF_KEPT) else { return Ok(()) };
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_proof = name.to_str().and_then(|name| name.strip_prefix(PROOF)).is_some_and(is_token);
        // Another gateway may have been faster.
        if is_proof && entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|at| at < before) {
            absent_is_fine(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn lock_file(path: &Path) -> io::Result<Option<File>> {
    make_folder(path)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder))
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn records_are_whole_private_and_gone_when_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = Vault::new(folder.path().join("deep/acme"), None);
        assert!(vault.copies("a.pem").await.expect("readable").is_empty());
        vault.write("a.pem", b"one".to_vec()).await.expect("writable");
        vault.write("a.pem", b"two".to_vec()).await.expect("writable");
        assert_eq!(vault.copies("a.pem").await.expect("readable"), [b"two".to_vec()]);
        let file = folder.path().join("deep/acme/a.pem");
        assert_eq!(std::fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
        vault.remove("a.pem").await.expect("writable");
        vault.remove("a.pem").await.expect("nothing to do");
        assert!(vault.copies("a.pem").await.expect("readable").is_empty());
        let left = std::fs::read_dir(folder.path().join("deep/acme")).expect("a folder").count();
        assert_eq!(left, 0, "nothing is left beside");
    }

    #[tokio::test]
    async fn a_lease_is_held_by_one_and_a_proof_has_a_sound_token() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = Vault::new(folder.path().to_owned(), None);
        let other = Vault::new(folder.path().to_owned(), None);
        let time = Duration::from_secs(1);
        let lease = vault.lease("a", time).await.expect("writable").expect("free");
        assert!(other.lease("a", time).await.expect("writable").is_none());
        assert!(other.lease("b", time).await.expect("writable").is_some());
        lease.release().await;
        assert!(other.lease("a", time).await.expect("writable").is_some());
        vault.show_proof("t0k-en_", "t0k-en_.thumb").await.expect("writable");
        assert_eq!(other.proof("t0k-en_").await.expect("readable").as_deref(), Some(&b"t0k-en_.thumb"[..]));
        for wrong in ["../a", "", "a.b", "a/b", "%2e"] {
            assert_eq!(other.proof(wrong).await.expect("readable"), None, "{wrong}");
        }
        vault.hide_proof("t0k-en_").await.expect("writable");
        assert_eq!(other.proof("t0k-en_").await.expect("readable"), None);
    }

    #[tokio::test]
    async fn proofs_that_nobody_has_hidden_go_when_the_next_one_is_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = Vault::new(folder.path().to_owned(), None);
        // Named after its first name, as certificates are.
        let certificate = "proof-site.test-0123456789abcdef.pem";
        vault.show_proof("left", "left.thumb").await.expect("writable");
        vault.write(certificate, b"precious".to_vec()).await.expect("writable");
        let long_ago = SystemTime::now() - 2 * PROOF_KEPT;
        for name in ["proof-left", certificate] {
            let file = OpenOptions::new().write(true).open(folder.path().join(name)).expect("there");
            file.set_modified(long_ago).expect("writable");
        }
        vault.show_proof("first", "first.thumb").await.expect("writable");
        vault.show_proof("second", "second.thumb").await.expect("writable");
        for (token, is_there) in [("left", false), ("first", true), ("second", true)] {
            assert_eq!(vault.proof(token).await.expect("readable").is_some(), is_there, "{token}");
        }
        assert_eq!(vault.copies(certificate).await.expect("readable").len(), 1);
    }

    #[tokio::test]
    async fn so_many_look_for_a_proof_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = Vault::new(folder.path().to_owned(), None);
        let busy = vault.looks.acquire_many(u32::try_from(LOOKS_MAX).expect("a few")).await.expect("open");
        let one_more = tokio::time::timeout(Duration::from_millis(50), vault.proof("token")).await;
        assert!(one_more.is_err(), "it waits");
        assert_eq!(vault.proof("no token").await.expect("nothing to look for"), None);
        drop(busy);
        assert_eq!(vault.proof("token").await.expect("readable"), None);
    }
}
