//! API keys: how one looks, how it is made, what is stored of it.
//!
//! For: `cap6_<12-character public id>_<43-character secret>`. The id may be logged; the secret never is.
//! May touch: randomness and SHA-256. Promises: the secret has 256 bits, so a plain SHA-256 at rest is enough (a slow
//! hash protects guessable secrets, and these are not); comparison takes the same time wherever the difference is.
//! Read next: `claims.rs` for what a verifier learns about a key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::Secret;

/// What every key begins with; lets secret scanners find leaked ones.
pub const PREFIX: &str = "cap6";
/// Characters of the public id.
pub const ID_CHARS: usize = 12;
/// Characters of the secret: 32 random bytes in unpadded base64url (RFC 4648 §5).
pub const SECRET_CHARS: usize = 43;
/// Characters of a whole key.
pub const KEY_CHARS: usize = PREFIX.len() + 1 + ID_CHARS + 1 + SECRET_CHARS;

/// The alphabet of ids: no look-alikes, so that an id read out loud arrives.
const ID_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A well-formed key: its public id and its secret.
#[derive(Clone)]
pub struct ApiKey {
    id: String,
    secret: Secret,
}

/// The text is not an API key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: expected {PREFIX}_<{ID_CHARS} characters>_<{SECRET_CHARS} characters>")]
pub struct MalformedKey;

/// SHA-256 of a key's secret: what is kept at rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl ApiKey {
    /// A new key from the system's random generator.
    #[must_use]
    pub fn generate() -> Self {
        let random: [u8; ID_CHARS] = rand::random();
        let id = random.iter().map(|byte| char::from(ID_ALPHABET[usize::from(byte % 32)])).collect();
        Self { id, secret: new_secret() }
    }

    /// The key of this public id with a new secret; `None` for what is no id of ours.
    #[must_use]
    pub fn renewed(id: &str) -> Option<Self> {
        (id.len() == ID_CHARS && is_id(id)).then(|| Self { id: id.to_owned(), secret: new_secret() })
    }

    /// Reads a key as a client sends it.
    ///
    /// # Errors
    /// `MalformedKey` when prefix, lengths or alphabet are off. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        if text.len() != KEY_CHARS || !text.is_ascii() {
            return Err(MalformedKey);
        }
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(MalformedKey)?;
        let (id, rest) = rest.split_at(ID_CHARS);
        let secret = rest.strip_prefix('_').ok_or(MalformedKey)?;
        let id_is_sound = is_id(id);
        let secret_is_sound = secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !id_is_sound || !secret_is_sound {
            return Err(MalformedKey);
        }
        Ok(Self { id: id.to_owned(), secret: Secret::new(secret.to_owned()) })
    }

    /// The public part: may be stored, listed and logged.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What to store of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret.expose().as_bytes()).into())
    }

    /// The whole key, to be shown to its owner once.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}_{}_{}", self.id, self.secret.expose())
    }
}

/// Whether all characters are those of public ids.
fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| ID_ALPHABET.contains(&byte))
}

/// A new secret from the system's random generator.
fn new_secret() -> Secret {
    let random: [u8; 32] = rand::random();
    Secret::new(URL_SAFE_NO_PAD.encode(random))
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({PREFIX}_{}_***)", self.id)
    }
}

impl SecretHash {
    /// Reads the 64 hexadecimal digits that `to_hex` wrote; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Whether both are the same, in constant time.
    #[must_use]
    pub fn matches(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_parses_back_to_the_same_hash() {
        let key = ApiKey::generate();
        let text = key.reveal();
        assert_eq!(text.len(), KEY_CHARS);
        let parsed = ApiKey::parse(&text).expect("a generated key is well-formed");
        assert_eq!(parsed.id(), key.id());
        assert!(parsed.secret_hash().matches(&key.secret_hash()));
        assert!(!ApiKey::generate().secret_hash().matches(&key.secret_hash()));
    }

    #[test]
    fn a_renewed_key_has_its_id_and_another_secret() {
        let key = ApiKey::generate();
        let renewed = ApiKey::renewed(key.id()).expect("an id of ours");
        assert_eq!(renewed.id(), key.id());
        assert!(!renewed.secret_hash().matches(&key.secret_hash()));
        for wrong in ["", "abcdefghijk", "abcdefghijkmm", "abcdefghijkO", "abcdefghijk\0"] {
            assert!(ApiKey::renewed(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn malformed_keys_are_refused() {
        let good = ApiKey::generate().reveal();
        let cases = [
            String::new(),
            good.replacen("cap6", "cap7", 1),
            good[..good.len() - 1].to_owned(),
            format!("{good}x"),
            good.replacen(char::from(good.as_bytes()[6]), "O", 1),
            format!("{}é", &good[..good.len() - 2]),
        ];
        for case in cases {
            assert_eq!(ApiKey::parse(&case).err(), Some(MalformedKey), "{case:?}");
        }
    }

    #[test]
    fn nothing_secret_prints() {
        let key = ApiKey::generate();
        let printed = format!("{key:?} {:?}", key.secret_hash());
        assert!(!printed.contains(key.secret.expose()));
        assert!(!printed.contains(&key.secret_hash().to_hex()));
    }
}
