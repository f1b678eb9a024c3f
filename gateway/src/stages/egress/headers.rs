//! Headers of an upstream's answer.

use http::header::{CONNECTION, PROXY_AUTHENTICATE, TRAILER, UPGRADE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::reply::X_REQUEST_ID;
use crate::stages::dispatch::forward::HeaderSink;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The fields that were meant for the connection to the upstream (RFC 9110 §7.6.1). A change of protocols lives off them,
/// so there they stay. Most answers have none, and then nothing is allocated.
pub(crate) fn unwanted(answer: &HeaderMap, switching_protocols: bool) -> Vec<HeaderName> {
    if switching_protocols {
        return Vec::new();
    }
    let nominated = answer.get_all(CONNECTION).iter().filter_map(|field| field.to_str().ok());
    let nominated = nominated.flat_map(|field| field.split(',')).map(str::trim).filter(|name| !is_framing(name));
    let nominated = nominated.filter_map(|name| HeaderName::try_from(name).ok());
    let known = [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, TRAILER, UPGRADE, CONNECTION];
    nominated.chain(known).filter(|name| answer.contains_key(name)).collect()
}

/// Takes those away, and names the request.
pub(crate) fn rewrite(unwanted: &[HeaderName], request_id: &HeaderValue, sink: &mut impl HeaderSink) {
    for name in unwanted {
        sink.remove(name);
    }
    sink.set(X_REQUEST_ID, request_id.clone());
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
        rewrite(&unwanted(&answer, false), &HeaderValue::from_static("r-1"), &mut sink);
        let mut left: Vec<_> = sink.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-end", "x-request-id"]);
    }
}
