//! Keys of `respond`, `redirect`, `rewrite` and `compress`: what a route does besides passing requests on.

use common::settings::{At, ByteSize, Named};
use common::{choice, section};

use crate::config::fields::{FieldValue, MediaPattern, PathPrefix, UpstreamHost};
use crate::config::values::HttpUrl;

section! {
    /// A fixed answer, given without asking anybody.
    pub(crate) struct Respond {
        /// Its status, 200 to 599.
        pub status: At<u16> = "200",
        /// Its body, 64 KiB at most.
        pub body: Option<At<String>> = "null",
        /// The body's media type.
        pub content_type: FieldValue = "text/plain; charset=utf-8",
        /// Fields besides.
        pub headers: Named<FieldValue> = "{}",
    }
}

choice! {
    /// How a client is sent elsewhere (RFC 9110 §15.4).
    pub(crate) enum RedirectStatus {
        /// For good; clients may turn POST into GET.
        MovedPermanently = "301",
        /// For now; clients may turn POST into GET.
        Found = "302",
        /// To be read by GET.
        SeeOther = "303",
        /// For now, with method and body.
        TemporaryRedirect = "307",
        /// For good, with method and body.
        PermanentRedirect = "308",
    }
}

impl RedirectStatus {
    /// The status as a number.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
        }
    }
}

section! {
    /// Sends clients elsewhere.
    pub(crate) struct Redirect {
        /// Where to, as an `http` or `https` URL.
        pub to: At<HttpUrl> => "say where to, such as to: https://new.example.org",
        /// How.
        pub status: RedirectStatus = "308",
        /// Whether path (in normal form) and query of the request are put behind `to`; otherwise everybody is sent to `to`.
        pub keep_path: bool = "true",
    }
}

section! {
    /// Under what name and path the upstream is asked. What is matched and authorised is the path before.
    pub(crate) struct Rewrite {
        /// Taken off the front of the path, whole segments only; the upstream is told in `X-Forwarded-Prefix`.
        pub strip_prefix: Option<At<PathPrefix>> = "null",
        /// Put before the path, after `strip_prefix`.
        pub add_prefix: Option<PathPrefix> = "null",
        /// Host that the upstream is asked for, with its port where it needs one; `keep` leaves the client's. The client's is
        /// told in `X-Forwarded-Host` either way.
        pub host: UpstreamHost = "keep",
    }
}

choice! {
    /// A coding of answers (RFC 9110 §8.4.1).
    pub(crate) enum Coding {
        /// Zstandard (RFC 8878).
        Zstd = "zstd",
        /// Brotli (RFC 7932).
        Brotli = "br",
        /// gzip (RFC 1952).
        Gzip = "gzip",
    }
}

section! {
    /// How answers are compressed for clients that ask for it (`Accept-Encoding`). Streams pass piece by piece, as they come.
    /// Leave it off where an answer holds a secret together with something that the sender of the request chooses (BREACH).
    pub(crate) struct Compression {
        /// Codings to choose from; among those that a client likes equally well, the first.
        pub algorithms: At<Vec<Coding>> = "[zstd, br, gzip]",
        /// Answers that are known to be smaller are left as they are.
        pub min_bytes: ByteSize = "1KiB",
        /// Media types that are worth it: a type, or all of a kind as `text/*`. Events (`text/event-stream`) and gRPC never are.
        pub types: At<Vec<MediaPattern>> = "[text/*, application/json, application/javascript, image/svg+xml, application/problem+json]",
    }
}
