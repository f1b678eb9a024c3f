//! Password: hashing that is slow on purpose, kept from slowing everything else.
//!
//! For: making and checking password hashes. May touch: tokio's blocking threads.
//! Promises: hashes run off the async threads, `concurrent_max` at once; at most `waiting_max` wait and the next is told
//! that we are overloaded; a user who does not exist costs the same time as one who does.
//! Read next: `sessions.rs`.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version};
use common::secret::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Hashing;

/// The shortest password, in characters (NIST SP 800-63B-4 §3.1.1.2 asks for 8 beside a second factor or throttling).
pub(super) const PASSWORD_CHARS_MIN: usize = 8;
/// The longest, in characters: room for a passphrase, but no food for a flood of hashing.
pub(super) const PASSWORD_CHARS_MAX: usize = 128;

// OWASP's password storage cheat sheet gives this as the least for argon2id: 19 MiB, two passes, one lane. A login takes
// some 30 ms of one core and 19 MiB, so that a guess costs an attacker with the hashes the same.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// All slots and the queue before them are full.
    #[error("too many passwords are being checked")]
    Overloaded,
    /// The parameters of this file are not argon2's.
    #[error("the hashing parameters are not sound")]
    Parameters(#[source] argon2::Error),
    /// The hash could not be computed.
    #[error("the hash cannot be computed")]
    Hash(#[source] argon2::password_hash::Error),
    /// What is kept as a hash is none.
    #[error("the kept hash is not in PHC form")]
    NotAHash(#[source] argon2::password_hash::Error),
    /// The thread that hashed is gone.
    #[error("the hashing thread is gone")]
    Thread(#[source] tokio::task::JoinError),
}

/// Hashes and checks passwords, a bounded number at once.
pub struct Hasher {
    argon2: Argon2<'static>,
    /// One permit each for whoever hashes or waits.
    queue: Arc<Semaphore>,
    /// One permit each for whoever hashes.
    slots: Arc<Semaphore>,
    /// Checked in place of a user who does not exist.
    nobody: String,
}

/// Both permits, held by the thread that hashes, so that they count also when the caller has gone away.
struct Turn {
    _queue: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
}

impl Hasher {
    /// Computes one hash at once, for whoever does not exist.
    ///
    /// # Errors
    /// When argon2 refuses the parameters or cannot get its memory.
    pub fn new(bounds: Hashing) -> Result<Self, PasswordError> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(PasswordError::Parameters)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let random: [u8; 32] = rand::random();
        let nobody = hash_now(&argon2, &random)?;
        Ok(Self {
            argon2,
            queue: Arc::new(Semaphore::new(bounds.concurrent_max.saturating_add(bounds.waiting_max))),
            slots: Arc::new(Semaphore::new(bounds.concurrent_max)),
            nobody,
        })
    }

    /// The hash of a password, in PHC form.
    ///
    /// # Errors
    /// `PasswordError::Overloaded` when too many wait; else when argon2 fails.
    pub async fn hash(&self, password: Secret) -> Result<String, PasswordError> {
        let argon2 = self.argon2.clone();
        self.in_turn(move || hash_now(&argon2, password.expose().as_bytes())).await
    }

    /// Whether the password is the one of this hash. Without a hash the answer is no, after the same time.
    ///
    /// # Errors
    /// `PasswordError::Overloaded` when too many wait; else when argon2 fails or the hash is none.
    pub async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool, PasswordError> {
        let argon2 = self.argon2.clone();
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let matches = self.in_turn(move || verify_now(&argon2, password.expose().as_bytes(), &hash)).await?;
        Ok(matches && exists)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let queue = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| PasswordError::Overloaded)?;
        // The semaphore is never closed, so the only way to fail is not there.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| PasswordError::Overloaded)?;
        let turn = Turn { _queue: queue, _slot: slot };
        let worker = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        worker.await.map_err(PasswordError::Thread)?
    }
}

/// Whether a new password is acceptable; the text says what it must be.
///
/// # Errors
/// What it must be.
pub(super) fn check_new(password: &Secret) -> Result<(), String> {
    if fits(password) {
        Ok(())
    } else {
        Err(format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"))
    }
}

/// Whether the length is that of a password at all; anything else need not be hashed to be wrong.
#[must_use]
pub(super) fn fits(password: &Secret) -> bool {
    let text = password.expose();
    // Four bytes a character at most: a megabyte is refused without counting it.
    text.len() <= 4 * PASSWORD_CHARS_MAX && (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&text.chars().count())
}

fn hash_now(argon2: &Argon2<'_>, password: &[u8]) -> Result<String, PasswordError> {
    let hash: PasswordHash = argon2.hash_password(password).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

fn verify_now(argon2: &Argon2<'_>, password: &[u8], hash: &str) -> Result<bool, PasswordError> {
    let hash = PasswordHash::new(hash).map_err(|error| PasswordError::NotAHash(error.into()))?;
    match argon2.verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(PasswordError::Hash(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_and_no_other() {
        let hasher = Hasher::new(Hashing { concurrent_max: 2, waiting_max: 4 }).expect("argon2 works");
        let hash = hasher.hash(secret("correct horse")).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify(secret("correct horse"), Some(hash.clone())).await.expect("checked"));
        assert!(!hasher.verify(secret("wrong horse!"), Some(hash)).await.expect("checked"));
        assert!(!hasher.verify(secret("correct horse"), None).await.expect("checked"));
        let broken = hasher.verify(secret("correct horse"), Some("plain".into())).await;
        assert!(matches!(broken, Err(PasswordError::NotAHash(_))));
    }

    #[tokio::test]
    async fn whoever_finds_the_queue_full_is_told_so() {
        let hasher = Hasher::new(Hashing { concurrent_max: 1, waiting_max: 0 }).expect("argon2 works");
        let held = Arc::clone(&hasher.queue).try_acquire_owned().expect("the queue is free");
        assert!(matches!(hasher.hash(secret("correct horse")).await, Err(PasswordError::Overloaded)));
        drop(held);
        assert!(hasher.hash(secret("correct horse")).await.is_ok());
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let cases = [("", false), ("seven77", false), ("eight888", true), ("äöüäöüäö", true)];
        for (text, fitting) in cases {
            assert_eq!(fits(&secret(text)), fitting, "{text:?}");
        }
        assert!(fits(&secret(&"ä".repeat(PASSWORD_CHARS_MAX))));
        assert!(!fits(&secret(&"a".repeat(PASSWORD_CHARS_MAX + 1))));
    }
}
