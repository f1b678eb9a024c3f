//! Values: how single values are written that the settings library does not know.
//!
//! For: socket addresses, networks, addresses of web servers and of Redis. May touch: nothing.
//! Promises: what does not parse is reported at its place, with an example of what would. Read next: `raw.rs`.

use std::net::SocketAddr;

use common::settings::{Decode, Decoder, Node, Shape};
use ipnet::IpNet;
use url::Url;

use super::checked::RedisUrl;

/// The port of a Redis server whose address names none.
const REDIS_PORT: u16 = 6379;

/// An address to listen on: `127.0.0.1:8000`. Port 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BindAddress(pub(super) SocketAddr);

/// A network: `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Network(pub(super) IpNet);

/// An `http` or `https` address.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WebAddress(pub(super) Url);

impl Decode for BindAddress {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        text.parse().map(Self).ok().or_else(|| {
            decoder
                .mistake(node.position, format!("{text:?} is not an address to listen on, such as 127.0.0.1:8000"));
            None
        })
    }

    fn shape() -> Shape {
        Shape::text("address:port")
    }
}

impl Decode for Network {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(single).map(Self).or_else(|| {
            decoder.mistake(node.position, format!("{text:?} is not a network, such as 10.0.0.0/8"));
            None
        })
    }

    fn shape() -> Shape {
        Shape::text("network")
    }
}

impl Decode for WebAddress {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        let usable = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        };
        // The text is not repeated: it may hold a password, which belongs behind a reference.
        text.parse().ok().filter(usable).map(Self).or_else(|| {
            decoder.mistake(
                node.position,
                "is not an http or https address without credentials, such as http://127.0.0.1:9000/v1",
            );
            None
        })
    }

    fn shape() -> Shape {
        Shape::text("http or https address")
    }
}

impl Decode for RedisUrl {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        let read = redis_url(&text);
        if read.is_none() {
            // The text is not repeated: it may hold a password, which belongs behind a reference.
            decoder.mistake(
                node.position,
                "is not an address such as redis://10.0.0.5:6379, or rediss:// for TLS; user, password and database are \
                 keys of their own",
            );
        }
        read
    }

    fn shape() -> Shape {
        Shape::text("redis or rediss address")
    }
}

fn redis_url(text: &str) -> Option<RedisUrl> {
    let url = Url::parse(text).ok()?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    let bare = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    let host = url.host_str().filter(|host| bare && !host.is_empty())?.trim_matches(['[', ']']).to_owned();
    Some(RedisUrl { host, port: url.port().unwrap_or(REDIS_PORT), tls })
}
