//! Compress: smaller answers for clients that ask for them.
//!
//! For: whether an answer is compressed and how (RFC 9110 §8.4, §12.5.3), what its head says then, and the encoders.
//! May touch: heads and pieces of bodies. Promises: what is not meant to be touched is not: parts, answers to HEAD, what is
//! encoded already, what was said not to be transformed, events, gRPC; a piece of an answer goes out when it came in.
//! Read next: `accept.rs` for what a client asks for, `encoder.rs` for how it is done.

pub(crate) mod accept;
pub(crate) mod encoder;
#[cfg(test)]
mod tests;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RANGE,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use self::accept::Accepted;
use super::headers::vary;
use crate::config::checked::{Coding, Compression};
use crate::stages::dispatch::forward::HeaderSink;

/// Fields that vouch for the very bytes of a body (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What a request says that bears on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    accepted: Accepted,
    /// Whether a whole body will be sent that may be changed.
    whole: bool,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It would be the same for every client.
    Untouched,
    /// It would be compressed for another client.
    Plain,
    /// It is compressed.
    Coded(Coding),
}

impl Asked {
    /// Reads a request. `trailers` is whether fields behind the body were announced, which a coding would have to leave out.
    pub(crate) fn read(method: &Method, version: Version, headers: &HeaderMap, trailers: bool) -> Self {
        // An HTTP/1.0 client knows no chunks, and so cannot tell the end of a body whose length is not known.
        let whole = method != Method::HEAD
            && version >= Version::HTTP_11
            && !headers.contains_key(RANGE)
            && !no_transform(headers)
            && !trailers;
        Self { accepted: Accepted::read(headers), whole }
    }
}

/// What becomes of an answer with this head; `empty` is whether no body follows it.
pub(crate) fn fit(settings: &Compression, asked: Asked, status: StatusCode, answer: &HeaderMap, empty: bool) -> Fit {
    if !may_be_touched(status, answer) || !is_worth_it(settings, answer) {
        return Fit::Untouched;
    }
    let coding = asked.accepted.choose(&settings.algorithms.value);
    let small = length(answer).is_some_and(|bytes| bytes < settings.min_bytes.bytes());
    match coding {
        // Who refuses what is not encoded gets it encoded, however small.
        _ if small && !asked.accepted.refuses_identity() => Fit::Untouched,
        Some(coding) if asked.whole && !empty => Fit::Coded(coding),
        Some(_) | None => Fit::Plain,
    }
}

/// Makes the head say what becomes of the body. Chunks are for HTTP/1.1; HTTP/2 has frames, and leaves the field out.
pub(crate) fn dress(fit: Fit, sink: &mut impl HeaderSink) {
    if fit == Fit::Untouched {
        return;
    }
    vary(&ACCEPT_ENCODING, sink);
    let Fit::Coded(coding) = fit else { return };
    sink.set(CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
    sink.set(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    sink.remove(&CONTENT_LENGTH);
    // Parts would be parts of other bytes.
    sink.remove(&ACCEPT_RANGES);
    // The same bytes no more, and the same meaning still (RFC 9110 §8.8.1).
    let weak = sink.fields().get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = weak.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        sink.set(ETAG, weak);
    }
}

/// Whether the body is a whole one, as the upstream has it, and nothing was said that forbids to change it.
fn may_be_touched(status: StatusCode, answer: &HeaderMap) -> bool {
    let bodiless = status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT
                | StatusCode::RESET_CONTENT
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
        );
    !bodiless
        && !answer.contains_key(CONTENT_ENCODING)
        && !no_transform(answer)
        && !DIGESTS.iter().any(|name| answer.contains_key(*name))
}

/// Whether it is of a media type that the configuration names. Events are small and wait for nobody, and gRPC has its own way.
fn is_worth_it(settings: &Compression, answer: &HeaderMap) -> bool {
    let mut types = answer.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next().and_then(|value| value.to_str().ok()), types.next()) else {
        return false;
    };
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type != "text/event-stream"
        && !media_type.starts_with("application/grpc")
        && settings.types.value.iter().any(|pattern| pattern.fits(&media_type))
}

/// `Cache-Control: no-transform`, of either side (RFC 9111 §5.2.1.6, §5.2.2.6).
fn no_transform(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
}

/// The length of a body, in bytes, where it is known.
fn length(answer: &HeaderMap) -> Option<u64> {
    answer.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
