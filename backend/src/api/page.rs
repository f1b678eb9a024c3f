//! Page: lists in bounded pieces.
//!
//! For: `?limit=…&cursor=…` in, `next_cursor` out, and the same under other names. May touch: nothing.
//! Promises: a page has `LIMIT_MAX` items at most; a cursor is opaque to clients and refused when it is not one of ours.
//! Read next: `rest/users.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::error::ApiError;

/// Items of a page when the client names no limit.
pub(super) const LIMIT_DEFAULT: u32 = 50;
/// The most items of a page.
pub(super) const LIMIT_MAX: u32 = 100;
/// The longest cursor that is looked at, in characters.
const CURSOR_CHARS_MAX: usize = 256;

/// What a client may ask of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    cursor: Option<String>,
}

/// One piece of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Where the next piece begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl PageQuery {
    /// How many items to give.
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        limit("limit", self.limit)
    }

    /// What the last item of the page before left in its cursor.
    pub(super) fn after(&self) -> Result<Option<String>, ApiError> {
        self.cursor.as_deref().map(|cursor| mark("cursor", cursor)).transpose()
    }
}

/// How many items to give, when the client asked for `wanted` under this name.
pub(super) fn limit(name: &str, wanted: Option<u32>) -> Result<u32, ApiError> {
    match wanted.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(ApiError::input(name, &format!("must be 1 to {LIMIT_MAX}"))),
    }
}

/// What is in a cursor that came under this name.
pub(super) fn mark(name: &str, cursor: &str) -> Result<String, ApiError> {
    let refused = || ApiError::input(name, "is not one that this list gave");
    if cursor.len() > CURSOR_CHARS_MAX {
        return Err(refused());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    // Every mark of ours is visible; the database cannot be asked for a text with a NUL in it.
    String::from_utf8(bytes).ok().filter(|mark| mark.bytes().all(|byte| byte.is_ascii_graphic())).ok_or_else(refused)
}

/// The cursor that brings this mark back.
pub(super) fn cursor(mark: &str) -> String {
    URL_SAFE_NO_PAD.encode(mark)
}

/// The place of an item in a list by time: its second and its id.
pub(super) fn write_mark(at: i64, id: &str) -> String {
    format!("{at}:{id}")
}

/// What `write_mark` wrote into a cursor, which came under this name.
pub(super) fn parse_mark<'m>(name: &str, mark: &'m str) -> Result<(i64, &'m str), ApiError> {
    mark.split_once(':')
        .and_then(|(at, id)| Some((at.parse().ok()?, id)))
        .ok_or_else(|| ApiError::input(name, "is not one that this list gave"))
}

impl<T> Page<T> {
    /// Makes a page of one item more than the limit, if there is one: that is how the end is known.
    pub(super) fn cut(mut items: Vec<T>, limit: u32, mark: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        Self { next_cursor: last.map(|item| cursor(&mark(item))), items }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_more_follows() {
        let page = Page::cut(vec![1, 2, 3], 2, ToString::to_string);
        assert_eq!((page.items.len(), page.next_cursor.as_deref()), (2, Some("Mg")));
        let next = PageQuery { limit: None, cursor: page.next_cursor };
        assert_eq!(next.after().expect("ours").as_deref(), Some("2"));
        assert_eq!(Page::cut(vec![1, 2], 2, ToString::to_string).next_cursor, None);
        assert_eq!(Page::cut(Vec::<u8>::new(), 2, ToString::to_string).next_cursor, None);
    }

    #[test]
    fn limits_and_cursors_are_checked() {
        for limit in [0, LIMIT_MAX + 1] {
            assert!(PageQuery { limit: Some(limit), cursor: None }.limit().is_err(), "{limit}");
        }
        for cursor in ["***", "gA", "AA", &"a".repeat(CURSOR_CHARS_MAX + 1)] {
            assert!(PageQuery { limit: None, cursor: Some(cursor.into()) }.after().is_err(), "{cursor:.10}");
        }
    }
}
