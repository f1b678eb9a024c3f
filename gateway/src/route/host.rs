//! The host of a request in the form that routes are kept in: lower case, without port and without a final dot.

use std::borrow::Cow;

/// Reads `Host` or `:authority`. `None` when it is not `host[:port]` (RFC 9110 §7.2).
pub(crate) fn normalise(authority: &str) -> Option<Cow<'_, str>> {
    let (name, port) = split_port(authority)?;
    if port.is_some_and(|port| port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let bracketed = name.starts_with('[');
    let sound =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || (bracketed && b"[]:".contains(&byte));
    if name.is_empty() || name.ends_with('.') || name.len() > 255 || !name.bytes().all(sound) {
        return None;
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let (name, rest) = authority.split_at(end);
        return match rest {
            "" => Some((name, None)),
            rest => Some((name, Some(rest.strip_prefix(':')?))),
        };
    }
    Some(authority.split_once(':').map_or((authority, None), |(name, port)| (name, Some(port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_without_port_and_case() {
        for (authority, host) in [
            ("api.example.org", Some("api.example.org")),
            ("API.Example.org:8443", Some("api.example.org")),
            ("api.example.org.", Some("api.example.org")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:8443", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
            ("a b", None),
            ("user@host", None),
            ("host:port", None),
            ("host:80:90", None),
            ("host/path", None),
            (".", None),
            ("host..", None),
            ("[::1", None),
            ("[::1]x", None),
        ] {
            assert_eq!(normalise(authority).as_deref(), host, "{authority:?}");
        }
    }
}
