//! Answer: what the gateway says by itself to a request that was admitted, instead of asking an upstream.
//!
//! For: fixed answers and redirects of routes. Promises: where a client is sent is the configuration's word; what comes from
//! the request, path and query, can name no other host and end no line.

use bytes::Bytes;
use common::code::Code;
use http::HeaderValue;
use http::header::LOCATION;

use super::rewrite::without;
use crate::base::refusal::Refusal;
use crate::base::reply::Reply;
use crate::config::checked::{Does, Redirect, Respond};
use crate::route::host;
use crate::stages::verdict::Verdict;

/// What a route answers by itself.
#[derive(Debug)]
pub(crate) enum Answer {
    Respond(Respond),
    Redirect(Redirect),
}

impl Answer {
    /// What the configuration says; `None` for a route that asks an upstream.
    pub(crate) fn of(does: &Does) -> Option<Self> {
        match does {
            Does::Forward(_) => None,
            Does::Respond(respond) => Some(Self::Respond(respond.clone())),
            Does::Redirect(redirect) => Some(Self::Redirect(redirect.clone())),
        }
    }

    /// How the request ends.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Respond(_) => Verdict::Answered,
            Self::Redirect(_) => Verdict::Redirected,
        }
    }

    /// The answer. `path` is in normal form, `query` without its `?`, and `hidden` are the parameters that carry credentials.
    pub(crate) fn reply(&self, path: &[u8], query: Option<&[u8]>, hidden: &[Box<str>]) -> Reply {
        match self {
            Self::Respond(respond) => {
                Reply { status: respond.status, headers: respond.headers.clone(), body: respond.body.clone() }
            }
            Self::Redirect(redirect) => {
                let location = location(redirect, path, query, hidden);
                let headers = location.map(|location| (LOCATION, location)).into_iter().collect();
                Reply { status: redirect.status, headers, body: Bytes::new() }
            }
        }
    }
}

/// Sends a plain client to the same URL with `https`. 308 keeps method and body (RFC 9110 §15.4.9).
///
/// # Errors
/// 400 where the request names no host.
pub(crate) fn to_https(host: Option<&str>, target: &str, port: u16) -> Result<Reply, Refusal> {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let host = host.and_then(host::normalise);
    let location = host.and_then(|host| HeaderValue::from_str(&format!("https://{host}{port}{target}")).ok());
    let location =
        location.ok_or_else(|| Refusal::new(Code::RequestMalformed).detail("the request names no host"))?;
    Ok(Reply { status: 308, headers: vec![(LOCATION, location)], body: Bytes::new() })
}

/// Always there: a URL is plain ASCII, and so is what is put behind it.
fn location(redirect: &Redirect, path: &[u8], query: Option<&[u8]>, hidden: &[Box<str>]) -> Option<HeaderValue> {
    if !redirect.keep_path {
        return HeaderValue::from_str(&redirect.to).ok();
    }
    let query = query.map(|query| [b"?", query].concat());
    let query = query.map(|query| if hidden.is_empty() { query } else { without(&query, hidden) });
    let mut location = String::with_capacity(redirect.to.len() + path.len() + query.as_ref().map_or(0, Vec::len));
    location.push_str(&redirect.to);
    for byte in path.iter().chain(query.iter().flatten()) {
        if byte.is_ascii_graphic() {
            location.push(char::from(*byte));
        } else {
            push_code(&mut location, *byte);
        }
    }
    HeaderValue::from_str(&location).ok()
}

/// The percent code of a byte (RFC 3986 §2.1).
fn push_code(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or('0');
    text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_to(to: &str, keep_path: bool, path: &str, query: Option<&[u8]>) -> String {
        let answer = Answer::Redirect(Redirect { status: 308, to: to.into(), keep_path });
        let reply = answer.reply(path.as_bytes(), query, &[Box::from("access_token")]);
        assert_eq!(reply.status, 308);
        let [(name, value)] = &reply.headers[..] else { panic!("one field: {reply:?}") };
        assert_eq!(*name, LOCATION);
        value.to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn where_a_client_is_sent_is_safe() {
        let new = "https://new.example.org";
        let cases: [(bool, &str, Option<&[u8]>, &str); 7] = [
            (true, "/a/b", None, "https://new.example.org/a/b"),
            (true, "/", Some(b"q=1"), "https://new.example.org/?q=1"),
            (true, "/a", Some(b""), "https://new.example.org/a"),
            (true, "/a%20b", Some(b"q=%0D%0A"), "https://new.example.org/a%20b?q=%0D%0A"),
            (
                true,
                "/a",
                Some(b"q=a b\r\nSet-Cookie: x\xC3"),
                "https://new.example.org/a?q=a%20b%0D%0ASet-Cookie:%20x%C3",
            ),
            (true, "/a", Some(b"access_token=t&q=1"), "https://new.example.org/a?q=1"),
            (false, "/a", Some(b"q=1"), "https://new.example.org"),
        ];
        for (keep_path, path, query, expected) in cases {
            assert_eq!(sent_to(new, keep_path, path, query), expected, "{path} {query:?}");
        }
        assert_eq!(sent_to("https://new.example.org/base", true, "/a", None), "https://new.example.org/base/a");
    }
}
