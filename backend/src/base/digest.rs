//! Digest: SHA-256, and comparison that does not tell where two texts differ.
//!
//! For: what is kept of tokens at rest, cache keys, and shared secrets. May touch: aws-lc.
//! Promises: `same` takes a time that depends on the lengths only. Read next: `auth/refresh.rs`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};

/// The bytes of a SHA-256 digest.
pub const DIGEST_BYTES: usize = 32;

/// SHA-256 over several parts, each preceded by its length, so that no two lists of parts read the same.
#[must_use]
pub fn sha256_of_parts(parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    finish(context)
}

/// SHA-256 of one text.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    finish(context)
}

/// Whether both are the same, in a time that depends on their lengths only.
#[must_use]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    verify_slices_are_equal(left, right).is_ok()
}

fn finish(context: Context) -> [u8; DIGEST_BYTES] {
    let digest = context.finish();
    let mut bytes = [0; DIGEST_BYTES];
    // Both have 32 bytes: that is what SHA-256 is.
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(sha256_of_parts(&[b"ab", b"c"]), sha256_of_parts(&[b"a", b"bc"]));
        assert_ne!(sha256_of_parts(&[b"", b"a"]), sha256_of_parts(&[b"a", b""]));
        assert_eq!(sha256_of_parts(&[b"a"]), sha256_of_parts(&[b"a"]));
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-4, the message "abc".
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"ab"));
    }
}
