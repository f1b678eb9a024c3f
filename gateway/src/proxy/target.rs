//! Target: what a client has asked for, as its upstream is to see it.
//!
//! For: the path that was matched and authorised, in place of the one that was sent. May touch: Pingora's session. Promises: as
//! `proxy.rs`: no rule lives here. Read next: `../route/path.rs`, where the normal form is made.

use http::{Uri, Version};
use pingora::{ErrorType, OrErr as _, Result};
use pingora_proxy::Session;

use super::head_of;
use crate::stages::dispatch;

/// `http://host/path` (RFC 9112 §3.2.2). What is neither this nor a path has no normal form, and is refused for that.
pub(super) fn is_absolute(target: &[u8]) -> bool {
    let scheme = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    scheme(b"http://") || scheme(b"https://")
}

/// Makes the upstream see the very path that was matched and authorised, and no credential in the query.
pub(super) fn set_target(session: &mut Session, rewritten: Option<Vec<u8>>, hidden: &[Box<str>]) -> Result<()> {
    let request = session.req_header();
    let raw = request.raw_path();
    let absolute = is_absolute(raw);
    let query = raw.iter().position(|byte| *byte == b'?').map(|start| raw[start..].to_vec());
    let query = query.map(|query| if hidden.is_empty() { query } else { dispatch::rewrite::without(&query, hidden) });
    let mut target = match rewritten {
        Some(path) => path,
        None if !hidden.is_empty() && query.is_some() => head_of(session).path.to_vec(),
        None if absolute => request.uri.path().as_bytes().to_vec(),
        None => return Ok(()),
    };
    target.extend(query.unwrap_or_default());
    // HTTP/2 keeps its host in the URI, which a new path alone would wipe out.
    let request = session.req_header_mut();
    let (scheme, authority) = (request.uri.scheme().cloned(), request.uri.authority().cloned());
    request.set_raw_path(&target)?;
    if request.version == Version::HTTP_2 {
        let mut parts = request.uri.clone().into_parts();
        (parts.scheme, parts.authority) = (scheme, authority);
        request.set_uri(Uri::from_parts(parts).or_err(ErrorType::InternalError, "a target in normal form")?);
    }
    Ok(())
}
