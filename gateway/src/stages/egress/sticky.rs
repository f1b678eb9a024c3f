//! Sticky: a cookie by which a client comes back to the server that it had.

use std::fmt::Write as _;

use http::HeaderValue;
use http::header::SET_COOKIE;

use crate::stages::context::Context;
use crate::stages::dispatch::forward::HeaderSink;

/// Tells the client its server, unless it knows. The value is a number that says nothing of where that is.
pub(crate) fn tell(context: &Context, sink: &mut impl HeaderSink) {
    let Some(hash) = context.dispatch.stick_to else { return };
    let Some(sticky) = context.pool().and_then(|pool| pool.sticky()) else { return };
    let mut cookie = format!("{}={hash:016x}; Path=/; HttpOnly; SameSite=Lax", sticky.cookie.value);
    if let Some(age) = sticky.max_age {
        // Writing to a String cannot fail.
        let _ = write!(cookie, "; Max-Age={}", age.duration().as_secs());
    }
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        sink.append(SET_COOKIE, cookie);
    }
}
