//! Values: what stands behind a key when it is more than a number, a word or a text.
//!
//! For: addresses, patterns, rates and credentials' places, each read by one `Decode`. May touch: nothing.
//! Promises: what was decoded needs no further parsing. Read next: `raw/`.

use std::net::SocketAddr;
use std::time::Duration;

use common::settings::{At, Decode, Decoder, Named, Node, Shape, Value, from_text};
use http::Method;

use super::raw::routes::{Needs, NeedsByMethod};

/// Length of a label (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// An address to listen on or to ask: IP and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(pub SocketAddr);

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub ipnet::IpNet);

/// Which hosts a route is for. Lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HostPattern {
    /// One name.
    Exact(String),
    /// `*.example.org`: any name below this suffix (kept without `*.`), not the suffix itself.
    Wildcard(String),
}

/// Which paths a route is for, in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PathPattern {
    /// One path.
    Exact(String),
    /// `/api/*`: this path (kept without `/*`, so empty for all) and everything below it, whole segments only.
    Prefix(String),
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub count: u32,
    pub period: Duration,
}

/// A method a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteMethod(pub Method);

/// Who may use a route: everybody, said out loud, or who shows a credential to one of these schemes, tried in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RouteAuth {
    Nobody,
    Schemes(Vec<At<String>>),
}

/// What a caller must have, written as a list of permissions or by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Require(pub NeedsByMethod);

/// The same for one method.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MethodNeeds(pub Needs);

/// An `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl(pub url::Url);

/// How many threads carry traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// As many as the machine gives this process.
    Auto,
    Exactly(u16),
}

impl Decode for Address {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            let expected =
                || format!("{text:?} is not an IP address with a port, such as 127.0.0.1:8000 or \"[::1]:8000\"");
            text.parse().map(Address).map_err(|_| expected())
        })
    }

    fn shape() -> Shape {
        Shape::text("IP:port")
    }
}

impl Decode for Network {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
            network.map(Network).map_err(|_| format!("{text:?} is not a network, such as 10.0.0.0/8 or ::1"))
        })
    }

    fn shape() -> Shape {
        Shape::text("network")
    }
}

impl HostPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (name, wildcard) = lower.strip_prefix("*.").map_or((lower.as_str(), false), |rest| (rest, true));
        let sound = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let bracketed = inside.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()) && !wildcard;
        if name.is_empty() || name.len() > 253 || !(bracketed || name.split('.').all(sound)) {
            return Err(format!(
                "{text:?} is not a host: a name without port, such as api.example.org or *.example.org"
            ));
        }
        Ok(if wildcard { Self::Wildcard(name.to_owned()) } else { Self::Exact(name.to_owned()) })
    }
}

impl Decode for HostPattern {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("host")
    }
}

impl PathPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (path, prefix) = text.strip_suffix("/*").map_or((text, false), |rest| (rest, true));
        if !(path.starts_with('/') || (prefix && path.is_empty())) {
            return Err(format!("{text:?} must begin with \"/\""));
        }
        if path.contains('*') {
            return Err(format!("{text:?} may hold \"*\" only as the last segment, as in /api/*"));
        }
        // Requests are matched in normal form, so a pattern in any other form would never match.
        let plain = |b: u8| b.is_ascii_graphic() && !b"\\%?#;\"<>^`{|}".contains(&b);
        let empty_inside = path.len() > 1 && (path.contains("//") || path.split('/').any(|s| s == "." || s == ".."));
        if !path.bytes().all(plain) || empty_inside || (prefix && path.ends_with('/')) {
            return Err(format!(
                "{text:?} is not in normal form: no \"//\", \"..\", percent codes, \";\", query or fragment"
            ));
        }
        Ok(if prefix { Self::Prefix(path.to_owned()) } else { Self::Exact(path.to_owned()) })
    }
}

impl Decode for PathPattern {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("path, or prefix as /api/*")
    }
}

impl Rate {
    fn parse(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(count, unit)| {
            let seconds = match unit {
                "s" => 1,
                "min" => 60,
                "h" => 3600,
                "d" => 86_400,
                _ => return None,
            };
            let count = count.parse().ok().filter(|count| (1..=1_000_000_000).contains(count))?;
            Some(Self { count, period: Duration::from_secs(seconds) })
        });
        parsed.ok_or_else(|| format!("{text:?} is not a rate, such as 10/s, 100/min, 1000/h or 5000/d"))
    }
}

impl Decode for Rate {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("rate")
    }
}

impl Decode for RouteMethod {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| match text.parse::<Method>() {
            // Methods are case-sensitive (RFC 9110 §9.1); lower case here is always a slip.
            Ok(method) if method == Method::CONNECT => Err("CONNECT is never passed on".to_owned()),
            Ok(method) if text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => Ok(Self(method)),
            _ => Err(format!("{text:?} is not a method, such as GET or POST")),
        })
    }

    fn shape() -> Shape {
        Shape::text("method")
    }
}

impl Decode for RouteAuth {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Text(word) if word == "none" => Some(Self::Nobody),
            Value::List(items) if !items.is_empty() => Vec::decode(node, decoder).map(Self::Schemes),
            _ => {
                let advice = "expected a list of auth schemes, such as [tokens], or the word none for a public route";
                decoder.mistake(node.position, advice);
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::List(Box::new(Shape::text("scheme name"))), Shape::Word(&["none"])])
    }
}

impl Decode for Require {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Value::List(_) = &node.value {
            let all = Vec::decode(node, decoder)?;
            let methods = Named::decode(&Node { value: Value::Map(Vec::new()), position: node.position }, decoder)?;
            return Some(Self(NeedsByMethod { all, any: Vec::new(), roles: Vec::new(), methods }));
        }
        NeedsByMethod::decode(node, decoder).map(Self)
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::List(Box::new(Shape::text("permission"))), NeedsByMethod::shape()])
    }
}

impl Decode for MethodNeeds {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Value::List(_) = &node.value {
            return Vec::decode(node, decoder).map(|all| Self(Needs { all, any: Vec::new(), roles: Vec::new() }));
        }
        Needs::decode(node, decoder).map(Self)
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::List(Box::new(Shape::text("permission"))), Needs::shape()])
    }
}

impl Decode for HttpUrl {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Ok(Self(url)),
            _ => Err("expected an http:// or https:// URL".to_owned()),
        })
    }

    fn shape() -> Shape {
        Shape::text("URL")
    }
}

impl Decode for Workers {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.value {
            Value::Text(word) if word == "auto" => Some(Self::Auto),
            Value::Integer(_) | Value::Text(_) => {
                let count = u16::decode(node, decoder)?;
                if count == 0 || count > 1024 {
                    decoder.mistake(node.position, "expected auto, or 1 to 1024 threads");
                    return None;
                }
                Some(Self::Exactly(count))
            }
            _ => decoder.unexpected(node, "auto, or a number of threads"),
        }
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::Word(&["auto"]), Shape::Integer])
    }
}

/// Whether this is one label of a DNS name, in lower case (RFC 1123 §2.1), as names in Kubernetes are.
pub(super) fn is_label(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(sound)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(HostPattern::parse("API.Example.org"), Ok(HostPattern::Exact("api.example.org".into())));
        assert_eq!(HostPattern::parse("*.example.org"), Ok(HostPattern::Wildcard("example.org".into())));
        assert_eq!(HostPattern::parse("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        for wrong in ["", "*", "a.*.b", "api.example.org:443", "a..b", "é.org", "*.", "a b"] {
            assert!(HostPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(PathPattern::parse("/"), Ok(PathPattern::Exact("/".into())));
        assert_eq!(PathPattern::parse("/*"), Ok(PathPattern::Prefix(String::new())));
        assert_eq!(PathPattern::parse("/api/v1/*"), Ok(PathPattern::Prefix("/api/v1".into())));
        assert_eq!(PathPattern::parse("/api/"), Ok(PathPattern::Exact("/api/".into())));
        for wrong in
            ["", "api", "*", "/a*", "/a/*/b", "//", "/a//b", "/a/../b", "/a%20b", "/a?b", "/a;b", "/a b", "//*"]
        {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(Rate::parse("100/min"), Ok(Rate { count: 100, period: Duration::from_mins(1) }));
        for wrong in ["100", "0/s", "-1/s", "100/minute", "100 / min", "1.5/s", "9999999999/s"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
