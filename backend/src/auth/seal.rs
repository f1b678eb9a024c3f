//! Seal: private keys, as they lie in the database.
//!
//! For: `keyring.rs`. May touch: aws-lc. Promises: AES-256-GCM under a key that HKDF-SHA-256 makes of the operator's
//! secret; a random nonce each time; what was sealed for one key id opens for no other. Read next: `keyring.rs`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use common::secret::Secret;

/// Parts this use of the secret from any other (RFC 5869 §3.1 asks for a salt, and allows one that is known).
const SALT: &[u8] = b"capibara6 signing keys at rest 1";

/// The bytes of the key.
const KEY_BYTES: usize = 32;

/// Seals and opens.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    /// A seal of this secret.
    pub(super) fn new(secret: &Secret) -> Result<Self, Unspecified> {
        let mut key = [0; KEY_BYTES];
        let derived = Salt::new(HKDF_SHA256, SALT).extract(secret.expose().as_bytes());
        derived.expand(&[b"AES-256-GCM"], HKDF_SHA256)?.fill(&mut key)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).map(Self)
    }

    /// Seals a text for this id.
    pub(super) fn seal(&self, id: &str, text: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut sealed = text.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(id.as_bytes()), &mut sealed)?;
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for this id.
    pub(super) fn open(&self, id: &str, sealed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        let opened = self.0.open_in_place(nonce, Aad::from(id.as_bytes()), &mut text)?;
        Ok(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: &str) -> Seal {
        Seal::new(&Secret::new(secret.into())).expect("a seal")
    }

    #[test]
    fn what_was_sealed_opens_for_its_id_and_secret_alone() {
        let mine = seal("a secret of at least 32 characters");
        let sealed = mine.seal("k1", b"a private key").expect("sealed");
        assert_eq!(mine.open("k1", &sealed).expect("opened"), b"a private key");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_ne!(mine.seal("k1", b"a private key").expect("sealed"), sealed, "a nonce each time");
        assert!(mine.open("k2", &sealed).is_err());
        assert!(seal("another one of at least 32 characters").open("k1", &sealed).is_err());
        let mut changed = sealed.clone();
        if let Some(byte) = changed.last_mut() {
            *byte ^= 1;
        }
        assert!(mine.open("k1", &changed).is_err());
        assert!(mine.open("k1", b"short").is_err());
    }
}
