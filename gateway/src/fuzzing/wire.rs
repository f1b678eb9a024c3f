//! Wire: the PROXY protocol's header, which comes before anybody has said who they are.

use std::net::{IpAddr, SocketAddr};

use crate::listen::proxy_protocol::{BINARY_BYTES_MAX, Parsed, parse};

/// Signature, version 2, and a command that names addresses.
const BINARY_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21";

/// The beginning of a connection. A header is read the same however it comes in, and no byte behind it is taken.
pub(super) fn proxy_protocol(input: &[u8]) {
    let whole = parse(input);
    let end = match whole {
        Ok(Parsed::Incomplete) => {
            assert!(input.len() < BINARY_BYTES_MAX, "what is longer than any header is not waited for");
            input.len()
        }
        Ok(Parsed::Header { bytes, source }) => {
            assert!(bytes <= input.len() && bytes <= BINARY_BYTES_MAX, "more was taken than there is");
            assert_eq!(parse(&input[..bytes]), whole, "what stands behind the header changes it");
            if let Some(source) = source {
                assert_read_back(source);
            }
            bytes
        }
        Err(_) => 0,
    };
    for cut in 0..input.len().min(BINARY_BYTES_MAX + 1) {
        let piece = parse(&input[..cut]);
        if cut < end {
            assert_eq!(piece, Ok(Parsed::Incomplete), "the first {cut} bytes pass for all of it");
        } else if piece != Ok(Parsed::Incomplete) {
            assert_eq!(piece, whole, "more bytes than {cut} change what was decided");
        }
    }
}

/// Both versions name the same address in the same way.
fn assert_read_back(source: SocketAddr) {
    let (ip, port) = (source.ip(), source.port());
    let (family_1, family_2) = if source.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
    let line = format!("PROXY {family_1} {ip} {ip} {port} 443\r\n");
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let body = [&octets[..], &octets, &port.to_be_bytes(), &443_u16.to_be_bytes()].concat();
    let length = if source.is_ipv4() { 12_u16 } else { 36 };
    let binary = [BINARY_START, &[family_2], &length.to_be_bytes(), &body].concat();
    for header in [line.into_bytes(), binary] {
        let expected = Parsed::Header { bytes: header.len(), source: Some(source) };
        assert_eq!(parse(&header), Ok(expected), "{}", header.escape_ascii());
    }
}
