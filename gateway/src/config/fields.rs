//! Fields: what is said in header fields (names, values, origins, media types), and what is put into the head of a request
//! for an upstream.
//!
//! For: values of `cors`, of what routes answer and of their header rules, each read by one `Decode`. May touch: nothing.
//! Promises: what was decoded needs no further parsing, and is safe to be written into a head; a value never shows in an
//! error, since it may be a secret. Read next: `raw/answers.rs`.

use common::settings::{Decode, Decoder, Node, Shape, Value, from_text, word_of};
use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::raw::answers::Compression;
use super::values::PathPattern;

/// The name of a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldName(pub HeaderName);

/// The value of a header field: plain ASCII on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldValue(pub HeaderValue);

/// Whose pages may read an answer, by their origin as browsers send it (RFC 6454 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Everybody's.
    Any,
    /// One.
    Exact(String),
    /// `https://*.example.org`: all below a name, not the name itself.
    Below {
        /// `https://`.
        scheme: String,
        /// `.example.org`, with its port where it has one.
        suffix: String,
    },
}

/// Which media types (RFC 9110 §8.3.1). Lower case, without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MediaPattern {
    /// One type.
    Exact(String),
    /// `text/*`: every type of a kind (kept with its slash).
    Kind(String),
}

/// The front of a path, in normal form, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPrefix(pub String);

/// The host that an upstream is told; `None` for the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamHost(pub Option<HeaderValue>);

/// Whether answers are compressed, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compress(pub Option<Compression>);

impl Decode for FieldName {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            HeaderName::try_from(text).map(Self).map_err(|_| format!("{text:?} is not a header name"))
        })
    }

    fn shape() -> Shape {
        Shape::text("header name")
    }
}

impl Decode for FieldValue {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = word_of(node, decoder)?;
        let value = HeaderValue::from_str(&text);
        value
            .map(Self)
            .map_err(|_| decoder.mistake(node.position, "a header's value is plain ASCII on one line"))
            .ok()
    }

    fn shape() -> Shape {
        Shape::text("header value")
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let expected = || {
            format!(
                "{text:?} is not an origin as browsers send it: scheme and host in lower case, a port only where it is not \
                 the usual one, nothing behind it, such as https://app.example.org or https://*.example.org"
            )
        };
        let (scheme, host) = text.split_once("://").ok_or_else(expected)?;
        let (host, wildcard) = host.strip_prefix("*.").map_or((host, false), |rest| (rest, true));
        let (name, port) = match host.rsplit_once(':') {
            // The colons of an IPv6 address stand between brackets.
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let usual = match scheme {
            "https" => "443",
            "http" => "80",
            _ => "",
        };
        let sound_port = port.is_none_or(|port| {
            port != usual && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
        });
        let bracketed = name.starts_with('[') && name.ends_with(']') && !wildcard;
        let address = |byte: u8| byte.is_ascii_hexdigit() || b"[]:.".contains(&byte);
        let sound_name = if bracketed {
            name.bytes().all(address)
        } else {
            name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_host_byte))
        };
        let sound_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
        if !(sound_scheme && sound_name && sound_port) {
            return Err(expected());
        }
        Ok(if wildcard {
            Self::Below { scheme: format!("{scheme}://"), suffix: format!(".{host}") }
        } else {
            Self::Exact(text.to_owned())
        })
    }

    /// Whether this origin is meant.
    pub(crate) fn fits(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(known) => known.as_bytes() == origin,
            Self::Below { scheme, suffix } => {
                let rest = origin.strip_prefix(scheme.as_bytes());
                let labels = rest.and_then(|rest| rest.strip_suffix(suffix.as_bytes()));
                // Only letters of a host: what looks like one must not hide a user name or a path.
                labels.is_some_and(|labels| {
                    labels
                        .split(|byte| *byte == b'.')
                        .all(|label| !label.is_empty() && label.iter().all(|byte| is_host_byte(*byte)))
                })
            }
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
}

impl Decode for Origin {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("origin")
    }
}

impl MediaPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        let sound = |part: &str| !part.is_empty() && part.bytes().all(token);
        match lower.split_once('/') {
            Some((kind, "*")) if sound(kind) => Ok(Self::Kind(format!("{kind}/"))),
            Some((kind, subtype)) if sound(kind) && sound(subtype) => Ok(Self::Exact(lower)),
            _ => Err(format!("{text:?} is not a media type, such as application/json or text/*")),
        }
    }

    /// Whether a type without its parameters is meant.
    pub(crate) fn fits(&self, media_type: &str) -> bool {
        match self {
            Self::Exact(known) => known.eq_ignore_ascii_case(media_type),
            Self::Kind(kind) => media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)),
        }
    }
}

impl Decode for MediaPattern {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("media type, or all of a kind as text/*")
    }
}

impl Decode for PathPrefix {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match PathPattern::decode(node, decoder)? {
            PathPattern::Exact(path) if !path.ends_with('/') => Some(Self(path)),
            PathPattern::Exact(_) | PathPattern::Prefix(_) => {
                decoder.mistake(node.position, "a prefix has no slash and no \"*\" at its end, such as /api");
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::text("path")
    }
}

impl Decode for UpstreamHost {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            if text == "keep" {
                return Ok(Self(None));
            }
            let authority = text.parse::<Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
            let host = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
            host.map(|host| Self(Some(host)))
                .ok_or_else(|| format!("{text:?} is not a host with or without a port, nor the word keep"))
        })
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::text("host"), Shape::Word(&["keep"])])
    }
}

impl Decode for Compress {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Bool(false) => Some(Self(None)),
            Value::Bool(true) => {
                let defaults = Node { value: Value::Map(Vec::new()), position: node.position };
                Compression::decode(&defaults, decoder).map(|settings| Self(Some(settings)))
            }
            _ => Compression::decode(node, decoder).map(|settings| Self(Some(settings))),
        }
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::Boolean, Compression::shape()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_fit_as_they_are_written() {
        for (pattern, origin, fits) in [
            ("*", "https://anything", true),
            ("https://app.example.org", "https://app.example.org", true),
            ("https://app.example.org", "https://app.example.org.evil.test", false),
            ("https://app.example.org", "http://app.example.org", false),
            ("https://app.example.org", "https://app.example.org:8443", false),
            ("https://app.example.org:8443", "https://app.example.org:8443", true),
            ("https://*.example.org", "https://a.example.org", true),
            ("https://*.example.org", "https://a.b.example.org", true),
            ("https://*.example.org", "https://example.org", false),
            ("https://*.example.org", "https://.example.org", false),
            ("https://*.example.org", "https://evilexample.org", false),
            ("https://*.example.org", "https://evil.test/.example.org", false),
            ("https://*.example.org", "https://user@a.example.org", false),
            ("https://*.example.org", "https://evil.test:443#.example.org", false),
            ("https://*.example.org", "http://a.example.org", false),
            ("https://*.example.org:8443", "https://a.example.org:8443", true),
            ("https://*.example.org:8443", "https://a.example.org", false),
            ("https://*.example.org", "null", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("capacitor://localhost", "capacitor://localhost", true),
        ] {
            let parsed = Origin::parse(pattern).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(parsed.fits(origin.as_bytes()), fits, "{pattern} {origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_origin() {
        for wrong in [
            "",
            "null",
            "app.example.org",
            "https://",
            "https://App.example.org",
            "https://app.example.org/",
            "https://app.example.org/path",
            "https://app.example.org:443",
            "http://app.example.org:80",
            "https://app.example.org:0",
            "https://app.example.org:08443",
            "https://*.",
            "https://*",
            "https://a.*.org",
            "https://user@app.example.org",
            "*.example.org",
        ] {
            assert!(Origin::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn media_types() {
        for (pattern, media_type, fits) in [
            ("text/*", "text/html", true),
            ("text/*", "TEXT/plain", true),
            ("text/*", "textual/html", false),
            ("text/*", "text", false),
            ("application/json", "application/json", true),
            ("application/json", "application/jsonp", false),
            ("image/svg+xml", "image/svg+xml", true),
        ] {
            let parsed = MediaPattern::parse(pattern).unwrap_or_else(|wrong| panic!("{wrong}"));
            assert_eq!(parsed.fits(media_type), fits, "{pattern} {media_type}");
        }
        for wrong in ["", "text", "*/*", "text/", "/json", "text/html; charset=utf-8", "a b/c"] {
            assert!(MediaPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
