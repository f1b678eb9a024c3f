//! PROXY protocol: a load balancer that passes bytes on says first whose they are.
//!
//! For: listeners with `proxy_protocol: true`. Versions 1 (a line of text) and 2 (binary), as `HAProxy`'s
//! `proxy-protocol.txt` has them. May touch: the beginning of a connection. Promises: reading takes what belongs to the
//! header and not a byte more; a header is complete within its deadline and its size, or the connection ends.
//! Read next: `socket.rs`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Longest line of version 1, line break included: the specification's own worst case.
const TEXT_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is taken, with whatever extensions: what the specification asks every receiver for.
pub(crate) const BINARY_BYTES_MAX: usize = 536;

const TEXT_START: &[u8] = b"PROXY ";
const BINARY_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const BINARY_FIXED_BYTES: usize = 16;

/// What the beginning of a connection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// All of it belongs to the header, and more has to come.
    Incomplete,
    /// The header, and how many bytes it has. `source` is `None` when it names no address, so that the connection's own
    /// counts: a health check by the load balancer itself, or a client without an IP address.
    Header { bytes: usize, source: Option<SocketAddr> },
}

/// It is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it begins like neither version")]
    Start,
    #[error("it is longer than any header")]
    TooLong,
    #[error("the line does not name two addresses and two ports")]
    Line,
    #[error("its version, command or family is not known")]
    Kind,
    #[error("it is too short for its addresses")]
    TooShort,
}

/// Why a connection has no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the header is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("the connection ended before its header did")]
    CutShort,
    #[error("the connection ended before its header did")]
    Lost(#[from] io::Error),
    #[error("the header was not complete in time")]
    Late,
    /// Not one byte came, as from somebody who looks whether the port is open.
    #[error("nothing was sent")]
    Nothing,
    #[error("the connection does not come from a trusted proxy")]
    Untrusted,
}

/// Reads the header. `None` says that the connection's own address counts.
///
/// # Errors
/// When there is none, it is malformed, or it is not complete by the deadline.
pub(super) async fn read(stream: &mut TcpStream, deadline: Instant) -> Result<Option<SocketAddr>, HeaderError> {
    timeout_at(deadline, read_all(stream)).await.unwrap_or(Err(HeaderError::Late))
}

async fn read_all(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = vec![0; BINARY_BYTES_MAX];
    let mut taken = 0;
    loop {
        // Looked at before it is taken: what stands behind the header is for TLS or HTTP.
        let seen = stream.peek(&mut header[taken..]).await?;
        if seen == 0 {
            return Err(if taken == 0 { HeaderError::Nothing } else { HeaderError::CutShort });
        }
        let parsed = parse(&header[..taken + seen])?;
        let end = match parsed {
            Parsed::Incomplete => taken + seen,
            Parsed::Header { bytes, .. } => bytes,
        };
        stream.read_exact(&mut header[taken..end]).await?;
        taken = end;
        if let Parsed::Header { source, .. } = parsed {
            return Ok(source);
        }
    }
}

/// Reads the header at the beginning of `input`, which may hold only a part of it, or more than it.
pub(crate) fn parse(input: &[u8]) -> Result<Parsed, Malformed> {
    if begins_like(input, BINARY_START) {
        binary(input)
    } else if begins_like(input, TEXT_START) {
        text(input)
    } else {
        Err(Malformed::Start)
    }
}

/// Whether the input begins with this, as far as it goes.
fn begins_like(input: &[u8], start: &[u8]) -> bool {
    input.iter().zip(start).all(|(byte, expected)| byte == expected)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and a line break.
fn text(input: &[u8]) -> Result<Parsed, Malformed> {
    let within = &input[..input.len().min(TEXT_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() < TEXT_BYTES_MAX { Ok(Parsed::Incomplete) } else { Err(Malformed::TooLong) };
    };
    let line = std::str::from_utf8(&within[..end]).map_err(|_| Malformed::Line)?;
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        // Whatever else stands there is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(text_source::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(text_source::<Ipv6Addr>(words)?),
        _ => return Err(Malformed::Line),
    };
    Ok(Parsed::Header { bytes: end + 2, source })
}

/// Source and destination, and their ports; all four must be there, and be what they say.
fn text_source<'a, A>(words: impl Iterator<Item = &'a str>) -> Result<SocketAddr, Malformed>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let words: Vec<&str> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else { return Err(Malformed::Line) };
    let address = |text: &str| text.parse::<A>().map_err(|_| Malformed::Line);
    let _ = (address(destination)?, port(destination_port)?);
    Ok(SocketAddr::new(address(source)?.into(), port(source_port)?))
}

/// Digits alone, without a zero in front that is not the whole number.
fn port(text: &str) -> Result<u16, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(Malformed::Line);
    }
    text.parse().map_err(|_| Malformed::Line)
}

/// Signature, a byte with version and command, one with family and transport, two of length, addresses, extensions.
fn binary(input: &[u8]) -> Result<Parsed, Malformed> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let Some((fixed, rest)) = input.split_at_checked(BINARY_FIXED_BYTES) else { return Ok(Parsed::Incomplete) };
    let (command, family) = (fixed[12], fixed[13]);
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !matches!(command, LOCAL | PROXY) {
        return Err(Malformed::Kind);
    }
    let bytes = BINARY_FIXED_BYTES + length;
    if bytes > BINARY_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let Some(body) = rest.get(..length) else { return Ok(Parsed::Incomplete) };
    let source = if command == LOCAL { None } else { binary_source(family, body)? };
    Ok(Parsed::Header { bytes, source })
}

/// The source, where family and transport are such that it has an IP address and a stream.
fn binary_source(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    match family {
        0x11 => {
            // Source, destination, and their ports.
            let addresses: &[u8; 12] = body.first_chunk().ok_or(Malformed::TooShort)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            Ok(Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))))
        }
        0x21 => {
            let addresses: &[u8; 36] = body.first_chunk().ok_or(Malformed::TooShort)?;
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(Malformed::TooShort)?;
            let port = u16::from_be_bytes([rest[16], rest[17]]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        // Unspecified, datagrams, and Unix sockets: nothing that could be an address of ours.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Ok(None),
        _ => Err(Malformed::Kind),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2.
    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a test's body is short");
        [BINARY_START, &[command, family], &length.to_be_bytes(), body].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    fn ipv6() -> Vec<u8> {
        let address = |last: u8| [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        [&address(1)[..], &address(2), &[0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    #[test]
    fn headers_name_their_source_and_keep_what_follows() {
        let cases: [(Vec<u8>, Option<&str>); 15] = [
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), Some("192.0.2.1:56324")),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(), Some("255.255.255.255:65535")),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 0 443\r\n".to_vec(), Some("192.0.2.1:0")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec(), Some("[2001:db8::1]:56324")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever stands here 1 2\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &IPV4), Some("192.0.2.1:56324")),
            (version_2(0x21, 0x11, &[&IPV4[..], b"\x04\x00\x03abc"].concat()), Some("192.0.2.1:56324")),
            (version_2(0x21, 0x11, &[&IPV4[..], &[0; 508]].concat()), Some("192.0.2.1:56324")),
            (version_2(0x21, 0x21, &ipv6()), Some("[2001:db8::1]:56324")),
            (version_2(0x20, 0x00, &[]), None),
            (version_2(0x20, 0xff, &IPV4), None),
            (version_2(0x21, 0x00, b"\x04\x00\x01x"), None),
            (version_2(0x21, 0x12, &IPV4), None),
            (version_2(0x21, 0x31, &[b'/'; 216]), None),
        ];
        for (header, source) in cases {
            let expected = Parsed::Header {
                bytes: header.len(),
                source: source.map(|source| source.parse().expect("an address and a port")),
            };
            for behind in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n", b"\x16\x03\x01"] {
                let input = [&header[..], behind].concat();
                assert_eq!(parse(&input), Ok(expected), "{}", input.escape_ascii());
            }
            for short in 0..header.len() {
                let input = &header[..short];
                assert_eq!(parse(input), Ok(Parsed::Incomplete), "{}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long_line = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92], b"\r\n".to_vec()].concat();
        let cases: [(Vec<u8>, Malformed); 23] = [
            (b"GET / HTTP/1.1\r\n".to_vec(), Malformed::Start),
            (b"\x16\x03\x01\x02".to_vec(), Malformed::Start),
            (b"proxy TCP4".to_vec(), Malformed::Start),
            (b"PROXY\r\n".to_vec(), Malformed::Start),
            (b"\r\n\r\n\0\r\nQUIT\r\n".to_vec(), Malformed::Start),
            (long_line, Malformed::TooLong),
            (b"PROXY \r\n".to_vec(), Malformed::Line),
            (b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 nowhere 1 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n".to_vec(), Malformed::Line),
            (b"PROXY TCP4 192.0.2.1\n198.51.100.1 1 2\r\n".to_vec(), Malformed::Line),
            (version_2(0x11, 0x11, &IPV4), Malformed::Kind),
            (version_2(0x22, 0x11, &IPV4), Malformed::Kind),
            (version_2(0x21, 0x11, &IPV4[..11]), Malformed::TooShort),
            (version_2(0x21, 0x11, &[0; 521]), Malformed::TooLong),
        ];
        for (input, malformed) in cases {
            assert_eq!(parse(&input), Err(malformed), "{}", input.escape_ascii());
        }
        assert_eq!(parse(&version_2(0x21, 0x44, &IPV4)), Err(Malformed::Kind));
        assert_eq!(parse(&version_2(0x21, 0x21, &IPV4)), Err(Malformed::TooShort));
    }

    fn any_input() -> impl Strategy<Value = Vec<u8>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..600);
        let addresses = "[0-9a-f.: ]{0,60}";
        prop_oneof![
            bytes(),
            bytes().prop_map(|rest| [b"PROXY ", &rest[..]].concat()),
            (prop::sample::select(vec!["TCP4", "TCP6", "UNKNOWN"]), addresses, bytes()).prop_map(
                |(family, addresses, rest)| {
                    [format!("PROXY {family} {addresses}\r\n").into_bytes(), rest].concat()
                }
            ),
            (bytes(), prop::sample::select(vec![0x20_u8, 0x21, 0x22]), any::<u8>(), 0..600_u16).prop_map(
                |(rest, command, family, length)| {
                    [BINARY_START, &[command, family], &length.to_be_bytes(), &rest].concat()
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn any_input_has_one_reading_that_more_bytes_do_not_change(input in any_input(), more in any_input()) {
            let whole = parse(&input);
            match whole {
                Ok(Parsed::Incomplete) => prop_assert!(input.len() < BINARY_BYTES_MAX),
                Ok(Parsed::Header { bytes, .. }) => {
                    prop_assert!((15..=BINARY_BYTES_MAX).contains(&bytes) && bytes <= input.len());
                    for short in 0..bytes {
                        prop_assert_eq!(parse(&input[..short]), Ok(Parsed::Incomplete));
                    }
                }
                Err(_) => {}
            }
            if whole != Ok(Parsed::Incomplete) {
                prop_assert_eq!(parse(&[&input[..], &more].concat()), whole);
            }
        }
    }
}
