//! Targets: where servers are, how they are found, and what chooses among them.
//!
//! For: values of `upstreams`, each read by one `Decode`. May touch: nothing.
//! Promises: what was decoded needs no further parsing. Read next: `raw/upstreams.rs`.

use std::net::SocketAddr;

use common::settings::{Decode, Decoder, Node, Shape, Value, from_text};
use http::HeaderName;

/// Where a server is, and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub at: Place,
    pub weight: u16,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Ip(SocketAddr),
    /// A socket in the file system.
    Unix(String),
}

/// A name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnsName {
    /// Addresses, for this port.
    Host { name: String, port: u16 },
    /// Services, which name their ports themselves.
    Service(String),
}

/// A port of endpoints in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndpointPort {
    Name(String),
    Number(u16),
}

/// What a hash goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashBy {
    ClientIp,
    Subject,
    Header(HeaderName),
    Cookie(String),
}

/// What decides between the sides of a split; `None` for a draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SplitBy(pub Option<HashBy>);

/// The largest weight of a server.
pub(crate) const WEIGHT_MAX: u16 = 100;

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // As long as the system allows, its closing zero not counted.
            let fits = path.starts_with('/') && path.len() < 108;
            return if fits {
                Ok(Self::Unix(path.to_owned()))
            } else {
                Err(format!("{path:?} is not the full path of a socket"))
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err("port 0 cannot be connected to".to_owned()),
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) => {
                Err(format!("{text:?} is not an IP address with a port, such as 127.0.0.1:8000, nor unix:/path"))
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Decode for Place {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("IP:port or unix:/path")
    }
}

impl Decode for Target {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if let Value::Map(_) = &node.value {
            let weighted = WeightedTarget::decode(node, decoder)?;
            if weighted.weight == 0 || weighted.weight > WEIGHT_MAX {
                decoder.mistake(node.position, format!("a weight is 1 to {WEIGHT_MAX}"));
                return None;
            }
            return Some(Self { at: weighted.at, weight: weighted.weight });
        }
        Place::decode(node, decoder).map(|at| Self { at, weight: 1 })
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Place::shape(), WeightedTarget::shape()])
    }
}

common::section! {
    /// A server with another share than the others.
    pub(crate) struct WeightedTarget {
        /// Its address.
        pub at: Place => "say where it is, such as at: 127.0.0.1:8000",
        /// Its share, as a number from 1 to 100.
        pub weight: u16 = "1",
    }
}

impl Decode for DnsName {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            if let Some(service) = text.strip_prefix("srv:").filter(|name| !name.is_empty()) {
                return Ok(Self::Service(service.to_owned()));
            }
            let parts = text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
            match parts {
                Some((name, port)) if !name.is_empty() && port > 0 => Ok(Self::Host { name: name.to_owned(), port }),
                _ => Err(format!("{text:?} is not a name with a port, such as api.internal:8000, nor srv:NAME")),
            }
        })
    }

    fn shape() -> Shape {
        Shape::text("name:port or srv:NAME")
    }
}

impl Decode for EndpointPort {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = match &node.value {
            Value::Integer(number) => number.to_string(),
            _ => String::decode(node, decoder)?,
        };
        // A name has a letter in it (RFC 6335 §5.1), so all digits are a number.
        let port = if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            text.parse::<u16>().ok().filter(|number| *number > 0).map(Self::Number)
        } else {
            let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (text.len() <= 63 && text.bytes().all(sound)).then(|| Self::Name(text.clone()))
        };
        if port.is_none() {
            decoder.mistake(node.position, format!("{text:?} is not a port: its name, such as http, or 1 to 65535"));
        }
        port
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::text("name of a port"), Shape::Integer])
    }
}

impl HashBy {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "client.ip" => Ok(Self::ClientIp),
            "identity.subject" => Ok(Self::Subject),
            _ => {
                let wrong = || {
                    format!(
                        "{text:?} is nothing to hash; one of: client.ip, identity.subject, header.NAME, cookie.NAME"
                    )
                };
                if let Some(name) = text.strip_prefix("header.") {
                    return HeaderName::try_from(name).map(Self::Header).map_err(|_| wrong());
                }
                let cookie = text.strip_prefix("cookie.").filter(|name| !name.is_empty());
                cookie.map(|name| Self::Cookie(name.to_owned())).ok_or_else(wrong)
            }
        }
    }
}

impl Decode for SplitBy {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| match text {
            "request" => Ok(Self(None)),
            _ => HashBy::parse(text).map(|by| Self(Some(by))),
        })
    }

    fn shape() -> Shape {
        Shape::text("what to split by")
    }
}

impl Decode for HashBy {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("what to hash")
    }
}
