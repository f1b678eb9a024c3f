//! Ids: how things are named that this program makes.
//!
//! For: rows, tokens and requests. May touch: the random generator and the clock behind `UUIDv7` (RFC 9562 §5.7).
//! Promises: ids sort by the time they were made, to the millisecond; a request id taken from a client is 1 to 64 visible
//! ASCII characters; what can be no id of ours is told from what may be one, and no key of a client's from one.
//! Read next: `api/middleware.rs`, which gives each request its id.

use uuid::Uuid;

/// The longest request id taken over from a client, in characters.
pub const REQUEST_ID_CHARS_MAX: usize = 64;

/// The longest key under which a client has a request done once, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// The longest id that is looked up, in characters.
const LOOKED_UP_CHARS_MAX: usize = 64;

/// A new id for anything: a `UUIDv7` in its 36-character form.
#[must_use]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// Whether something could be known by this text, so that it is worth asking the database. Every id of ours is visible
/// ASCII; Postgres cannot even be asked for a text with a NUL in it.
#[must_use]
pub fn may_be_one(text: &str) -> bool {
    is_visible(text.as_bytes(), LOOKED_UP_CHARS_MAX)
}

/// Whether a client may have a request done once under this key: 1 to `IDEMPOTENCY_KEY_CHARS_MAX` visible ASCII characters.
#[must_use]
pub fn may_be_idempotency_key(text: &str) -> bool {
    is_visible(text.as_bytes(), IDEMPOTENCY_KEY_CHARS_MAX)
}

/// The client's own request id when it is fit for logs and headers, else a new one.
#[must_use]
pub fn request_id(from_client: Option<&[u8]>) -> String {
    from_client
        .filter(|id| is_visible(id, REQUEST_ID_CHARS_MAX))
        .and_then(|id| String::from_utf8(id.to_vec()).ok())
        .unwrap_or_else(new_id)
}

/// Whether it is 1 to `chars_max` visible ASCII characters.
fn is_visible(text: &[u8], chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(Some(b"r-1")), "r-1");
        let longest = vec![b'x'; REQUEST_ID_CHARS_MAX];
        assert_eq!(request_id(Some(&longest)).len(), REQUEST_ID_CHARS_MAX);
        let too_long = [b'x'; REQUEST_ID_CHARS_MAX + 1];
        for unfit in
            [None, Some(&b""[..]), Some(&b"a b"[..]), Some(&b"a\tb"[..]), Some("é".as_bytes()), Some(&too_long[..])]
        {
            assert_eq!(request_id(unfit).len(), 36, "{unfit:?}");
        }
    }

    #[test]
    fn what_can_be_no_id_is_not_looked_up() {
        let (longest, longer) = ("x".repeat(LOOKED_UP_CHARS_MAX), "x".repeat(LOOKED_UP_CHARS_MAX + 1));
        assert!(may_be_one(&new_id()) && may_be_one("nobody") && may_be_one(&longest));
        for text in ["", "\0", "a\0b", "a b", "é", &longer] {
            assert!(!may_be_one(text), "{text:?}");
        }
    }

    #[test]
    fn ids_differ_and_sort_by_time() {
        let mut ids: Vec<String> = (0..100).map(|_| new_id()).collect();
        let made = ids.clone();
        ids.sort();
        ids.dedup();
        assert_eq!(ids, made);
    }
}
