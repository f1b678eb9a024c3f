//! Rewrite: under what name and path an upstream is asked, and what else it is told, where the route says so.
//!
//! Runs last before a request goes out, so that nothing that was matched, authorised or logged sees it.

use http::HeaderName;
use http::header::HOST;

use super::forward::HeaderSink;
use crate::config::checked::{HeaderRules, Rewrite};
use crate::stages::plan::Route;

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The target that the upstream is asked for; `None` when it is the one that came in. A path in normal form stays in it.
pub(crate) fn target(rewrite: &Rewrite, target: &[u8]) -> Option<Vec<u8>> {
    if rewrite.strip.is_none() && rewrite.add.is_empty() {
        return None;
    }
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(end)?;
    let stripped = rewrite.strip.as_ref().and_then(|(prefix, _)| {
        let rest = path.strip_prefix(prefix.as_bytes())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    });
    let path = stripped.unwrap_or(path);
    let mut rewritten = Vec::with_capacity(rewrite.add.len() + path.len() + query.len() + 1);
    rewritten.extend_from_slice(rewrite.add.as_bytes());
    rewritten.extend_from_slice(path);
    if rewritten.is_empty() {
        rewritten.push(b'/');
    }
    rewritten.extend_from_slice(query);
    Some(rewritten)
}

/// Tells the upstream what the route says: another host, what was stripped, and the route's own fields.
pub(crate) fn headers(route: &Route, sink: &mut impl HeaderSink) {
    if let Some(rewrite) = &route.rewrite {
        if let Some((_, prefix)) = &rewrite.strip {
            sink.set(X_FORWARDED_PREFIX, prefix.clone());
        }
        if let Some(host) = &rewrite.host {
            sink.set(HOST, host.clone());
        }
    }
    apply(&route.request_headers, sink);
}

/// Takes away, sets and adds fields, in this order.
pub(crate) fn apply(rules: &HeaderRules, sink: &mut impl HeaderSink) {
    for name in &rules.remove {
        sink.remove(name);
    }
    for (name, value) in &rules.set {
        sink.set(name.clone(), value.clone());
    }
    for (name, value) in &rules.add {
        sink.append(name.clone(), value.clone());
    }
}

/// A query, with its `?`, without the parameters of these names.
pub(crate) fn without(query: &[u8], hidden: &[Box<str>]) -> Vec<u8> {
    let pairs = query.get(1..).unwrap_or_default().split(|byte| *byte == b'&');
    let kept = pairs.filter(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        !hidden.iter().any(|hidden| hidden.as_bytes() == name)
    });
    let kept = kept.collect::<Vec<_>>().join(&b'&');
    if kept.is_empty() { kept } else { [b"?", &kept[..]].concat() }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_path_loses_and_gains_whole_segments() {
        for (strip, add, asked, expected) in [
            ("/api", "", "/api/users", "/users"),
            ("/api", "", "/api", "/"),
            ("/api", "", "/api/", "/"),
            ("/api", "", "/api?q=/api", "/?q=/api"),
            ("/api", "", "/apix/users", "/apix/users"),
            ("/api", "/v2", "/api/users?a=1&b", "/v2/users?a=1&b"),
            ("/api", "/v2", "/api", "/v2"),
            ("/api", "/v2", "/api/", "/v2/"),
            ("", "/v2", "/", "/v2/"),
            ("", "/v2", "/users?", "/v2/users?"),
            ("/api/v1", "/api/v2", "/api/v1/a/b", "/api/v2/a/b"),
        ] {
            let prefix = HeaderValue::from_str(strip).expect("a value");
            let strip = (!strip.is_empty()).then(|| (strip.into(), prefix));
            let rewrite = Rewrite { strip, add: add.into(), host: None };
            let rewritten = target(&rewrite, asked.as_bytes()).expect("something to do");
            assert_eq!(String::from_utf8_lossy(&rewritten), expected, "{asked}");
        }
        let nothing = Rewrite { strip: None, add: "".into(), host: None };
        assert_eq!(target(&nothing, b"/users"), None);
    }

    #[test]
    fn hidden_parameters_are_left_out_of_a_query() {
        let hidden: [Box<str>; 1] = ["access_token".into()];
        for (query, expected) in [
            ("?a=1&access_token=t&b=2", "?a=1&b=2"),
            ("?access_token=t", ""),
            ("?access_tokens=t", "?access_tokens=t"),
            ("?", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&without(query.as_bytes(), &hidden)), expected, "{query}");
        }
    }
}
