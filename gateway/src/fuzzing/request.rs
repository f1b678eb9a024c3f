//! Request: what a client says before it is known: where it wants to go, who forwarded it, what it takes.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use ipnet::IpNet;

use super::{fields, first_line, head_of, named_fields};
use crate::config::checked::Coding;
use crate::config::checked::Underscores;
use crate::route::host as hosts;
use crate::route::path::{Parameters, normalise};
use crate::stages::admission::address::{self, Addresses, X_FORWARDED_FOR};
use crate::stages::admission::sanity::{self, HeadLimits};
use crate::stages::egress::compress::accept::Accepted;

const LIMITS: HeadLimits = HeadLimits {
    header_bytes_max: 4096,
    header_count_max: 64,
    target_bytes_max: 1024,
    parameters: Parameters::Refuse,
    underscores: Underscores::Drop,
};

/// Items of `Accept-Encoding`, and addresses of `X-Forwarded-For`, that are read: said again, as a twin does.
const ITEMS_MAX: usize = 64;
const FORWARDERS_MAX: usize = 32;

/// A path. Its normal form is its own normal form, and nothing in it can be read in two ways.
pub(super) fn path(input: &[u8]) {
    let strict = normalise(input, Parameters::Refuse);
    let lenient = normalise(input, Parameters::Allow);
    if let Ok(normal) = &strict {
        assert!(!normal.contains(&b';'), "a parameter passes");
        assert_eq!(lenient.as_deref(), Ok(&**normal), "leniency changes a path that needs none");
    }
    for (parameters, outcome) in [(Parameters::Refuse, strict), (Parameters::Allow, lenient)] {
        let Ok(normal) = outcome else { continue };
        assert_eq!(normalise(&normal, parameters).as_deref(), Ok(&*normal), "once is not enough");
        assert_eq!(matches!(normal, Cow::Borrowed(_)), *normal == *input, "borrowed is what was sent in normal form");
        assert_plain(&normal);
    }
}

fn assert_plain(path: &[u8]) {
    let shown = path.escape_ascii();
    assert!(path.first() == Some(&b'/') && path.iter().all(u8::is_ascii_graphic), "{shown}");
    assert!(!path.contains(&b'\\') && !path.contains(&b'#'), "{shown}");
    let mut segments = path[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        assert!(name != b"." && name != b"..", "a dot segment: {shown}");
        assert!(!segment.is_empty() || segments.peek().is_none(), "an empty segment: {shown}");
    }
    for code in path.split(|byte| *byte == b'%').skip(1) {
        let digits = code.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or("");
        let byte = u8::from_str_radix(digits, 16).ok();
        assert_eq!(
            byte.map(|byte| format!("{byte:02X}")).as_deref(),
            Some(digits),
            "a code in another form: {shown}"
        );
        let separates = byte.is_none_or(|byte| byte.is_ascii_control() || b"/\\".contains(&byte));
        assert!(!separates, "an encoded separator: {shown}");
        let plain = byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        assert!(!plain, "a code for a plain character: {shown}");
    }
}

/// `Host` or `:authority`. The form in which routes keep it is its own form, whatever the port.
pub(super) fn host(input: &[u8]) {
    let Ok(authority) = std::str::from_utf8(input) else { return };
    let Some(host) = hosts::normalise(authority) else { return };
    assert_plain_host(&host);
    for port in ["", ":443", ":", ".:8443"] {
        // A final dot belongs to names; behind brackets there is none.
        if !(host.starts_with('[') && port.starts_with('.')) {
            assert_eq!(hosts::normalise(&format!("{host}{port}")).as_deref(), Some(&*host), "with {port:?}");
        }
    }
    assert_eq!(hosts::normalise(&authority.to_ascii_uppercase()).as_deref(), Some(&*host), "case counts");
}

fn assert_plain_host(host: &str) {
    assert!(!host.is_empty() && host.len() <= 255 && !host.ends_with('.'), "{host:?}");
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host:?}");
    assert!(
        host.bytes().all(|byte| byte.is_ascii_graphic()) && !host.contains(['/', '@', '?', '#', '%']),
        "{host:?}"
    );
    assert!(host.starts_with('[') || !host.contains(':'), "{host:?}");
}

/// A path, and fields. What passes names one host and frames its body in one way.
pub(super) fn head(input: &[u8]) {
    let (path, rest) = first_line(input);
    let headers = named_fields(rest);
    let Ok(target) = sanity::check(&head_of(path, None, &headers), &LIMITS) else { return };
    assert!(path.len() <= LIMITS.target_bytes_max && headers.len() <= LIMITS.header_count_max);
    assert_plain(&target.path);
    assert_plain_host(&target.host);
    assert_eq!(headers.get_all(HOST).iter().count(), 1, "another host might be read");
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    assert!(lengths.len() + codings.len() <= 1, "a body might be framed in two ways");
    for length in lengths {
        let number = length.to_str().ok().filter(|text| !text.starts_with('+')).map(str::parse::<u64>);
        assert!(matches!(number, Some(Ok(_))), "{length:?}");
    }
    for coding in codings {
        assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"), "{coding:?}");
    }
    let sent = target.path.to_vec();
    assert_eq!(
        target.rewritten().unwrap_or_else(|| path.to_vec()),
        sent,
        "another path is forwarded than was checked"
    );
}

/// Fields of `Accept-Encoding`, one a line. What is chosen was offered, is liked best, and was not refused.
pub(super) fn accept_encoding(input: &[u8]) {
    use Coding::{Brotli, Gzip, Zstd};
    let headers = fields(&ACCEPT_ENCODING, input);
    let accepted = Accepted::read(&headers);
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let items: Vec<&str> = values.flat_map(|value| value.split(',')).take(ITEMS_MAX).collect();
    let identity = weight_among(&items, &["identity"]);
    let orders: [&[Coding]; 6] =
        [&[Zstd, Brotli, Gzip], &[Gzip, Brotli, Zstd], &[Brotli, Gzip], &[Zstd], &[Brotli], &[Gzip]];
    for offered in orders {
        let Some(chosen) = accepted.choose(offered) else {
            let alone = offered.iter().find_map(|coding| accepted.choose(&[*coding]));
            assert_eq!(alone, None, "{offered:?} is refused together only");
            continue;
        };
        let liked = weight_of(&items, chosen);
        assert!(offered.contains(&chosen) && accepted.choose(&[chosen]) == Some(chosen), "{chosen:?}");
        assert!(liked > 0.0 && liked <= 1.0, "{chosen:?} is chosen with q={liked}");
        assert!(offered.iter().all(|coding| weight_of(&items, *coding) <= liked), "{chosen:?} is not liked best");
        assert!(identity.is_none_or(|identity| identity <= liked), "plain is liked better than {chosen:?}");
    }
    let plain = identity.or_else(|| weight_among(&items, &["*"]));
    assert_eq!(accepted.refuses_identity(), plain.is_some_and(|weight| weight <= 0.0), "{plain:?}");
}

/// The same weights, read naively.
fn weight_of(items: &[&str], coding: Coding) -> f64 {
    let names: &[&str] = match coding {
        Coding::Zstd => &["zstd"],
        Coding::Brotli => &["br"],
        Coding::Gzip => &["gzip", "x-gzip"],
    };
    weight_among(items, names).or_else(|| weight_among(items, &["*"])).unwrap_or(0.0)
}

fn weight_among(items: &[&str], names: &[&str]) -> Option<f64> {
    let weight = |item: &&str| {
        let (name, parameter) = item.split_once(';').map_or((*item, "q=1"), |(name, parameter)| (name, parameter));
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name.trim())) {
            return None;
        }
        let value = parameter.trim().strip_prefix(['q', 'Q'])?.strip_prefix('=')?;
        let form = value.bytes().enumerate().all(|(place, byte)| match place {
            0 => matches!(byte, b'0' | b'1'),
            1 => byte == b'.',
            2..=4 => byte.is_ascii_digit(),
            _ => false,
        });
        value.parse().ok().filter(|weight: &f64| form && *weight <= 1.0)
    };
    items.iter().filter_map(weight).reduce(f64::max)
}

/// The address at the other end, then fields of `X-Forwarded-For`. The client is the right-most that no trusted proxy is.
pub(super) fn forwarded_for(input: &[u8]) {
    let (peer, rest) = first_line(input);
    let Some(peer) = std::str::from_utf8(peer).ok().and_then(|peer| peer.parse::<IpAddr>().ok()) else { return };
    let headers = fields(&X_FORWARDED_FOR, rest);
    let trusted =
        ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"].iter().filter_map(|network| network.parse::<IpNet>().ok());
    let addresses =
        Addresses { trusted: trusted.collect(), ipv6_prefix: u8::try_from(rest.len() % 129).unwrap_or(64) };
    let mut head = head_of(b"/", None, &headers);
    head.peer = peer;
    let client = address::client(&head, &addresses);

    let values = headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or(""));
    let mut entries: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    let mut expected = peer.to_canonical();
    for _ in 0..FORWARDERS_MAX {
        // Only a trusted proxy is asked whom it speaks for.
        let said = if addresses.trust(expected) { entries.pop() } else { None };
        let Some(ip) = said.and_then(|entry| address_of(entry.trim())) else { break };
        expected = ip.to_canonical();
    }
    assert_eq!(client.ip, expected);
    assert_eq!(client.through_trusted_proxy, addresses.trust(peer.to_canonical()));
    assert_eq!(client.network, addresses.network(client.ip));
    assert_eq!(addresses.network(client.network), client.network, "a network is its own");
}

/// An address alone, with a port, or in brackets.
fn address_of(entry: &str) -> Option<IpAddr> {
    let with_port = entry.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']'));
    let in_brackets = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()).map(IpAddr::V6);
    entry.parse().ok().or(with_port).or(in_brackets)
}
