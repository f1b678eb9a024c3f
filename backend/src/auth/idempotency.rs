//! Idempotency: whether a request under a client's key is the one that was done under it before.
//!
//! For: `users.rs` and `api_keys.rs`. May touch: `storage`. Promises: another request under the same key is refused; what
//! a request held is compared by its digest, a password by its slow hash. Read next: `storage/idempotency.rs`.

use super::AuthError;
use crate::base::digest::same;
use crate::base::ids::{IDEMPOTENCY_KEY_CHARS_MAX, may_be_idempotency_key};
use crate::storage::RequestRow;

/// Refuses a key that is none.
pub(super) fn check_key(key: &str) -> Result<(), AuthError> {
    if may_be_idempotency_key(key) {
        return Ok(());
    }
    let why = format!("must be 1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters");
    Err(AuthError::Input { field: "Idempotency-Key", why })
}

/// Refuses another request than the one that was done under its key.
pub(super) fn check_same(done: &RequestRow, body_hash: &[u8]) -> Result<(), AuthError> {
    if same(&done.body_hash, body_hash) { Ok(()) } else { Err(AuthError::RequestKeyReused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_visible() {
        let (longest, longer) = ("k".repeat(IDEMPOTENCY_KEY_CHARS_MAX), "k".repeat(IDEMPOTENCY_KEY_CHARS_MAX + 1));
        assert!(check_key("a-1/b").is_ok() && check_key(&longest).is_ok());
        for key in ["", "two words", "\n", "\u{e9}", &longer] {
            assert!(matches!(check_key(key), Err(AuthError::Input { field: "Idempotency-Key", .. })), "{key:?}");
        }
    }
}
