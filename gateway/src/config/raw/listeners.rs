//! Keys of `listeners`: where clients connect, and how TLS is spoken there.

use std::path::PathBuf;

use common::settings::{At, Millis};
use common::{choice, section};

use crate::config::values::{Address, HttpUrl};

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
    /// A cipher suite, by the name that rustls gives it.
    pub(crate) enum Suite {
        /// TLS 1.3, AES-256.
        Tls13Aes256 = "TLS13_AES_256_GCM_SHA384",
        /// TLS 1.3, AES-128.
        Tls13Aes128 = "TLS13_AES_128_GCM_SHA256",
        /// TLS 1.3, `ChaCha20`.
        Tls13Chacha20 = "TLS13_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2 with an ECDSA certificate, AES-256.
        EcdsaAes256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2 with an ECDSA certificate, AES-128.
        EcdsaAes128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2 with an ECDSA certificate, `ChaCha20`.
        EcdsaChacha20 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2 with an RSA certificate, AES-256.
        RsaAes256 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2 with an RSA certificate, AES-128.
        RsaAes128 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2 with an RSA certificate, `ChaCha20`.
        RsaChacha20 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

impl Suite {
    /// Whether it is one of TLS 1.3; the others are of TLS 1.2.
    pub(crate) fn is_tls13(self) -> bool {
        matches!(self, Self::Tls13Aes256 | Self::Tls13Aes128 | Self::Tls13Chacha20)
    }
}

choice! {
    /// Whether a client must show a certificate.
    pub(crate) enum ClientAuthMode {
        /// It may. One that is shown must be good all the same.
        Optional = "optional",
        /// It must, or there is no connection.
        Required = "required",
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
        /// Expect every connection to begin with a PROXY protocol header (version 1 or 2) that names the client, as load
        /// balancers send it. Only `client_ip.trusted_proxies` may connect then; whoever else does, or sends none, is closed.
        pub proxy_protocol: At<bool> = "false",
    }
}

section! {
    /// How a listener speaks TLS. HTTP/2 and HTTP/1.1 are offered by ALPN.
    pub(crate) struct Tls {
        /// Certificates. The one whose names fit the client's SNI is shown; the first is the default.
        pub certificates: Vec<Certificate> = "[]",
        /// Certificates that the gateway orders and renews by itself. `certificates` and `acme` may stand side by side; one of
        /// them must be there.
        pub acme: Option<Acme> = "null",
        /// Oldest version that is spoken.
        pub min_version: TlsVersion = "1.2",
        /// Cipher suites that are spoken, by their names; empty for every one that is safe. For TLS 1.2, name at least one for
        /// the kind of key that the certificates have (ECDSA or RSA).
        pub suites: Vec<At<Suite>> = "[]",
        /// Ask clients for a certificate.
        pub client_auth: Option<ClientAuth> = "null",
    }
}

choice! {
    /// The kind of key that a certificate is ordered for.
    pub(crate) enum KeyType {
        /// ECDSA on P-256.
        P256 = "ecdsa_p256",
        /// ECDSA on P-384.
        P384 = "ecdsa_p384",
    }
}

section! {
    /// A certificate from an authority that speaks ACME (RFC 8555), proved by HTTP-01: the authority asks every name on port 80,
    /// which must lead to a listener without TLS. Until there is a certificate, handshakes for these names fail.
    pub(crate) struct Acme {
        /// DNS names that the certificate is for. Wildcards cannot be proved in this way.
        pub names: Vec<At<String>> => "list the names that the certificate is for, such as names: [api.example.org]",
        /// URL of the authority's directory.
        pub directory: At<HttpUrl> = "https://acme-v02.api.letsencrypt.org/directory",
        /// Where the authority may write to, such as `mailto:ops@example.org`.
        pub contact: Vec<At<String>> = "[]",
        /// That you agree to the authority's terms of service. Nothing is ordered without.
        pub terms_agreed: At<bool> => "read the authority's terms of service and write terms_agreed: true",
        /// PEM file with the authorities that are trusted for the directory's own TLS; without it, those of the system.
        pub ca: Option<At<PathBuf>> = "null",
        /// Folder for the account's key, certificates and pending proofs. Gateways that share it, or the Redis server of `stores`,
        /// share certificates.
        pub storage: PathBuf => "name a folder that outlives the process, such as storage: /var/lib/gateway/acme",
        /// How long before its end a certificate is renewed, at most a third of its time. An authority that says when to renew
        /// (RFC 9773) is followed if it wants it sooner.
        pub renew_before: At<Millis> = "30d",
        /// The kind of key.
        pub key_type: KeyType = "ecdsa_p256",
    }
}

section! {
    /// Certificates of clients (mutual TLS). They are verified in the handshake, and what they say is there for
    /// `auth.*.client_certificate`, and for `client_certificate` and `pass_client_certificate` of a route.
    pub(crate) struct ClientAuth {
        /// PEM file with the authorities whose certificates are accepted.
        pub ca: At<PathBuf> => "name the PEM file of the authorities, such as ca: clients-ca.crt",
        /// Whether a client must show one.
        pub mode: ClientAuthMode = "required",
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
