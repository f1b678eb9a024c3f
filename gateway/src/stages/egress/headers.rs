//! Headers of an upstream's answer.

use http::header::{CONNECTION, PROXY_AUTHENTICATE, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::reply::X_REQUEST_ID;
use crate::stages::dispatch::forward::HeaderSink;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes away what was meant for the connection to the upstream (RFC 9110 §7.6.1), and names the request.
pub(crate) fn rewrite(
    answer: &HeaderMap,
    switching_protocols: bool,
    request_id: &HeaderValue,
    sink: &mut impl HeaderSink,
) {
    sink.set(X_REQUEST_ID, request_id.clone());
    if switching_protocols {
        return;
    }
    for field in answer.get_all(CONNECTION) {
        for name in field.to_str().unwrap_or("").split(',').map(str::trim).filter(|name| !is_framing(name)) {
            if let Ok(name) = HeaderName::try_from(name) {
                sink.remove(&name);
            }
        }
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &PROXY_AUTHENTICATE, &TRAILER, &UPGRADE, &CONNECTION] {
        if answer.contains_key(name) {
            sink.remove(name);
        }
    }
}

/// An answer must not talk us out of its own length.
fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "content-type", "content-encoding"]
        .iter()
        .any(|framing| framing.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_stay_there() {
        let mut answer = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop, content-length"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("content-length", "5"),
            ("x-end", "1"),
        ] {
            answer.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut sink = answer.clone();
        rewrite(&answer, false, &HeaderValue::from_static("r-1"), &mut sink);
        let mut left: Vec<_> = sink.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-end", "x-request-id"]);
    }
}
