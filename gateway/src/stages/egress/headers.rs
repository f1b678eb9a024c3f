//! Headers of an upstream's answer.

use http::header::{CONNECTION, PROXY_AUTHENTICATE, TRAILER, UPGRADE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::reply::X_REQUEST_ID;
use crate::stages::dispatch::forward::HeaderSink;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What is meant for one connection, named or not.
static OF_ONE_CONNECTION: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, TRAILER, UPGRADE];

/// Takes away the fields that were meant for the connection to the upstream (RFC 9110 §7.6.1), and names the request. A change of
/// protocols lives off those fields, so there they stay.
pub(crate) fn rewrite(switching_protocols: bool, request_id: &HeaderValue, sink: &mut impl HeaderSink) {
    if !switching_protocols {
        for name in nominated(sink.fields()) {
            sink.remove(&name);
        }
        for name in &OF_ONE_CONNECTION {
            sink.remove(name);
        }
    }
    sink.set(X_REQUEST_ID, request_id.clone());
}

/// The fields that `Connection` names. Most answers name none, and then nothing is allocated.
fn nominated(answer: &HeaderMap) -> Vec<HeaderName> {
    let fields = answer.get_all(CONNECTION).iter().filter_map(|field| field.to_str().ok());
    let names = fields.flat_map(|field| field.split(',')).map(str::trim);
    let names = names.filter(|name| !is_option(name) && !is_framing(name));
    names.filter_map(|name| HeaderName::try_from(name).ok()).collect()
}

/// Takes away what clients never see.
pub(crate) fn hide(hidden: &[HeaderName], sink: &mut impl HeaderSink) {
    for name in hidden {
        sink.remove(name);
    }
}

/// Says that the answer depends on a field of the request (RFC 9110 §12.5.5), unless that is said already.
pub(crate) fn vary(field: &HeaderName, sink: &mut impl HeaderSink) {
    let said = sink.fields().get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut said = said.flat_map(|value| value.split(',')).map(str::trim);
    if !said.any(|name| name == "*" || name.eq_ignore_ascii_case(field.as_str())) {
        sink.append(VARY, HeaderValue::from_name(field.clone()));
    }
}

/// What an answer says of the connection itself.
fn is_option(name: &str) -> bool {
    ["keep-alive", "close"].iter().any(|option| option.eq_ignore_ascii_case(name))
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
        let mut sink = answer;
        rewrite(false, &HeaderValue::from_static("r-1"), &mut sink);
        let mut left: Vec<_> = sink.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-end", "x-request-id"]);
    }
}
