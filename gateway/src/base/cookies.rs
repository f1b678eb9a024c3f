//! Cookies: what a request sends of them (RFC 6265 §4.2.1).
//!
//! For: credentials and stickiness. May touch: header fields. Promises: borrows only; a field that is no text has none.

use http::HeaderMap;
use http::header::COOKIE;

/// Each name with its value, in their order.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='))
}
