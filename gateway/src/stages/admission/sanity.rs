//! Sanity: a head that two servers could read in two ways goes no further.

use std::borrow::Cow;

use common::code::Code;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

use crate::base::head::{Head, Occurrence};
use crate::base::refusal::Refusal;
use crate::config::checked::Underscores;
use crate::route::path::Parameters;
use crate::route::{host, path};

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub header_bytes_max: usize,
    pub header_count_max: usize,
    pub target_bytes_max: usize,
    pub parameters: Parameters,
    pub underscores: Underscores,
}

/// Where a request wants to go, in normal form.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub host: Cow<'a, str>,
    pub path: Cow<'a, [u8]>,
}

impl Target<'_> {
    /// The path, when it was not sent in normal form.
    pub(crate) fn rewritten(self) -> Option<Vec<u8>> {
        match self.path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path),
        }
    }
}

/// Checks a head and brings host and path into normal form.
///
/// # Errors
/// 400 or 431, with what is wrong.
pub(crate) fn check<'a>(head: &Head<'a>, limits: &HeadLimits) -> Result<Target<'a>, Refusal> {
    if head.target_bytes > limits.target_bytes_max {
        return Err(Refusal::new(Code::TargetTooLong).detail(format!("at most {} bytes", limits.target_bytes_max)));
    }
    check_size(head.headers, limits)?;
    check_framing(head)?;
    head.raw.map_or(Ok(()), check_raw)?;
    if limits.underscores == Underscores::Refuse && head.headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(malformed("a header name with an underscore"));
    }
    let host = head.host().ok_or_else(|| malformed("the request names no host, or more than one"))?;
    let host = host::normalise(host).ok_or_else(|| malformed("the host is not host[:port]"))?;
    let path = path::normalise(head.path, limits.parameters)
        .map_err(|error| Refusal::new(Code::PathInvalid).detail(error.to_string()))?;
    Ok(Target { host, path })
}

fn check_size(headers: &HeaderMap, limits: &HeadLimits) -> Result<(), Refusal> {
    if headers.len() > limits.header_count_max {
        return Err(Refusal::new(Code::HeadersTooLarge).detail("too many header fields"));
    }
    // Name, colon, space, value, line break: what HTTP/1.1 would carry.
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > limits.header_bytes_max {
        return Err(Refusal::new(Code::HeadersTooLarge));
    }
    Ok(())
}

/// One length, or one encoding, and no doubt about either (RFC 9112 §6.3, RFC 9110 §8.6).
fn check_framing(head: &Head<'_>) -> Result<(), Refusal> {
    if matches!(head.single(&HOST), Occurrence::Repeated) {
        return Err(malformed("more than one Host"));
    }
    match head.single(&CONTENT_LENGTH) {
        Occurrence::Absent => {}
        Occurrence::Repeated => return Err(malformed("more than one Content-Length")),
        Occurrence::Once(length) => {
            let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
            if !digits || length.len() > 19 {
                return Err(malformed("Content-Length is not a number"));
            }
            if head.headers.contains_key(TRANSFER_ENCODING) {
                return Err(malformed("both Content-Length and Transfer-Encoding"));
            }
        }
    }
    match head.single(&TRANSFER_ENCODING) {
        Occurrence::Absent => Ok(()),
        Occurrence::Once(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        Occurrence::Once(_) | Occurrence::Repeated => Err(malformed("Transfer-Encoding other than chunked")),
    }
}

/// What Pingora's parser has put right by itself: of two framings it has taken one away (RFC 9112 §6.3), and a line may have ended
/// with LF alone (§2.2), which is no line's end to others. Whoever wrote such a head may hope that somebody reads it otherwise.
fn check_raw(raw: &[u8]) -> Result<(), Refusal> {
    let (mut has_length, mut has_coding) = (false, false);
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        if line.ends_with(b"\n") && !line.ends_with(b"\r\n") {
            return Err(malformed("a line that ends without CR"));
        }
        let is_field = |name: &[u8]| line.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name));
        has_length |= is_field(b"content-length:");
        has_coding |= is_field(b"transfer-encoding:");
    }
    if has_length && has_coding {
        return Err(malformed("both Content-Length and Transfer-Encoding"));
    }
    Ok(())
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(Code::RequestMalformed).detail(detail)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        header_bytes_max: 200,
        header_count_max: 5,
        target_bytes_max: 50,
        parameters: Parameters::Refuse,
        underscores: Underscores::Drop,
    };

    fn checked(path: &str, fields: &[(&str, &str)]) -> Result<(String, Option<Vec<u8>>), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let head = Head { path: path.as_bytes(), target_bytes: path.len(), ..Head::plain(&headers) };
        check(&head, &LIMITS)
            .map(|target| (target.host.to_string(), target.rewritten()))
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_sound_head_passes_in_normal_form() {
        let target = checked("/a/../b", &[("host", "API.test:8443"), ("content-length", "5")]).expect("sound");
        assert_eq!(target, ("api.test".to_owned(), Some(b"/b".to_vec())));
        assert!(
            checked("/b", &[("host", "a"), ("transfer-encoding", "Chunked")]).is_ok_and(|target| target.1.is_none())
        );
    }

    #[test]
    fn doubt_is_refused() {
        let long = "x".repeat(200);
        for (fields, code) in [
            (vec![], Code::RequestMalformed),
            (vec![("host", "a"), ("host", "a")], Code::RequestMalformed),
            (vec![("host", "a b")], Code::RequestMalformed),
            (vec![("host", "a"), ("content-length", "5"), ("content-length", "5")], Code::RequestMalformed),
            (vec![("host", "a"), ("content-length", "5, 5")], Code::RequestMalformed),
            (vec![("host", "a"), ("content-length", "+5")], Code::RequestMalformed),
            (vec![("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")], Code::RequestMalformed),
            (vec![("host", "a"), ("transfer-encoding", "gzip, chunked")], Code::RequestMalformed),
            (vec![("host", "a"), ("x", &long)], Code::HeadersTooLarge),
            (vec![("host", "a"), ("x", ""), ("x", ""), ("x", ""), ("x", ""), ("x", "")], Code::HeadersTooLarge),
        ] {
            assert_eq!(checked("/", &fields).err(), Some(code), "{fields:?}");
        }
        for (raw, sound) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", true),
            ("\r\nGET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: Content-Length: 5\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nCONTENT-LENGTH: 5\r\ntransfer-encoding:chunked\r\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", false),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ] {
            let code = check_raw(raw.as_bytes()).err().map(|refusal| refusal.code);
            assert_eq!(code, (!sound).then_some(Code::RequestMalformed), "{raw:?}");
        }
        assert_eq!(checked("/%2f", &[("host", "a")]).err(), Some(Code::PathInvalid));
        assert_eq!(checked(&"/x".repeat(26), &[("host", "a")]).err(), Some(Code::TargetTooLong));
    }
}
