//! Keys of `listeners`: where clients connect, and how TLS is spoken there.

use std::path::PathBuf;

use common::settings::At;
use common::{choice, section};

use crate::config::values::Address;

choice! {
    /// Oldest TLS version that is spoken.
    pub(crate) enum TlsVersion {
        /// TLS 1.2 (RFC 5246).
        V1_2 = "1.2",
        /// TLS 1.3 (RFC 8446).
        V1_3 = "1.3",
    }
}

choice! {
    /// Where a plain request is sent instead.
    pub(crate) enum Redirect {
        /// To the same URL with `https`.
        Https = "https",
    }
}

section! {
    /// An address where clients connect.
    pub(crate) struct Listener {
        /// Address and port.
        pub bind: At<Address> => "write an address and a port, such as bind: 0.0.0.0:8443",
        /// Answer every request with a redirect instead of serving it.
        pub redirect: Option<At<Redirect>> = "null",
        /// Port to redirect to, as clients see it; by default that of the first TLS listener.
        pub redirect_port: Option<u16> = "null",
        /// Speak TLS; without it the listener is plain HTTP/1.1.
        pub tls: Option<Tls> = "null",
    }
}

section! {
    /// How a listener speaks TLS. HTTP/2 and HTTP/1.1 are offered by ALPN.
    pub(crate) struct Tls {
        /// Certificates. The one whose names fit the client's SNI is shown; the first is the default.
        pub certificates: Vec<Certificate> => "list at least one pair: certificates: [{ cert: tls.crt, key: tls.key }]",
        /// Oldest version that is spoken.
        pub min_version: TlsVersion = "1.2",
    }
}

section! {
    /// A certificate with its key.
    pub(crate) struct Certificate {
        /// PEM file with the certificate, followed by those of its issuers.
        pub cert: At<PathBuf> => "name the PEM file of the certificate",
        /// PEM file with the private key.
        pub key: At<PathBuf> => "name the PEM file of the private key",
    }
}
