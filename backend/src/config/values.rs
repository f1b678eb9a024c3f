//! Values: how single values are written that the settings library does not know.
//!
//! For: socket addresses, networks, addresses of web servers. May touch: nothing.
//! Promises: what does not parse is reported at its place, with an example of what would. Read next: `raw.rs`.

use std::net::SocketAddr;

use common::settings::{Decode, Decoder, Node, Shape, from_text};
use ipnet::IpNet;
use url::Url;

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
        from_text(node, decoder, |text| {
            let expected = || format!("{text:?} is not an address to listen on, such as 127.0.0.1:8000");
            text.parse().map(Self).map_err(|_| expected())
        })
    }

    fn shape() -> Shape {
        Shape::text("address:port")
    }
}

impl Decode for Network {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
            network.map(Self).map_err(|_| format!("{text:?} is not a network, such as 10.0.0.0/8"))
        })
    }

    fn shape() -> Shape {
        Shape::text("network")
    }
}

impl Decode for WebAddress {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let usable = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        };
        // The text is not repeated: it may hold a password, which belongs behind a reference.
        let expected = "is not an http or https address without credentials, such as http://127.0.0.1:9000/v1";
        from_text(node, decoder, |text| text.parse().ok().filter(usable).map(Self).ok_or_else(|| expected.to_owned()))
    }

    fn shape() -> Shape {
        Shape::text("http or https address")
    }
}
