//! Deadline: until when a request must be over, and what its upstream is told of that.
//!
//! For: every wait of `dispatch`. May touch: the clock. Promises: what a client says of its own patience can only shorten what the
//! route allows. Read next: `pick.rs`, which waits; `../../proxy.rs`, which cuts.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use common::code::Code;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::forward::HeaderSink;
use crate::base::refusal::Refusal;
use crate::stages::context::Context;

/// How long the answer is waited for, in milliseconds: the name that Envoy gave it, which its meshes and libraries read.
pub(super) const X_EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The same in gRPC's own terms
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The most that `grpc-timeout` says in one unit: eight digits.
const GRPC_DIGITS_MAX: usize = 8;

/// Timers may be so early, and nothing that begins so late can be answered.
const SLACK: Duration = Duration::from_millis(10);

/// The name of the deadline where policies are named.
static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "deadline".into());

/// Until when a request must be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// In steady time.
    pub ends_ns: u64,
    /// Whether it ends with the head of the answer.
    pub until_head: bool,
}

/// Which waits for a server are shorter than its own because of the deadline. To be late for them is no fault of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitsCut {
    /// Those for a piece of its answer.
    pub read: bool,
    /// Those until it takes a piece of the request.
    pub write: bool,
}

impl Deadline {
    /// The time that is left.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.ends_ns.saturating_sub(SystemClock.steady_ns()))
    }

    /// Whether nothing can be begun any more.
    pub(crate) fn is_over(self) -> bool {
        self.left() <= SLACK
    }

    /// Whether no byte may follow.
    pub(crate) fn has_passed(self) -> bool {
        self.left().is_zero()
    }
}

/// The deadline of a request, where its route has one. A gRPC client may have less patience, and so may a trusted proxy.
pub(crate) fn of(headers: &HeaderMap, context: &Context) -> Option<Deadline> {
    let rule = context.route.as_ref()?.deadline?;
    let trusted = context.client.is_some_and(|client| client.through_trusted_proxy);
    let told = if trusted { headers.get(X_EXPECTED_TIMEOUT).and_then(milliseconds) } else { None };
    let grpc = if is_grpc(headers) { headers.get(GRPC_TIMEOUT).and_then(grpc_timeout) } else { None };
    let patience = [told, grpc].into_iter().flatten().fold(rule.after, Duration::min);
    let patience_ns = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
    let ends_ns = context.now.steady_ns.saturating_add(patience_ns);
    Some(Deadline { ends_ns, until_head: rule.until_head })
}

/// Tells the upstream what is left; without a deadline of ours, what a trusted proxy has said goes on.
pub(super) fn tell(headers: &HeaderMap, context: &Context, sink: &mut impl HeaderSink) {
    let Some(deadline) = context.dispatch.deadline else {
        let trusted = context.client.is_some_and(|client| client.through_trusted_proxy);
        if let Some(told) = headers.get(X_EXPECTED_TIMEOUT).filter(|_| trusted) {
            sink.set(X_EXPECTED_TIMEOUT, told.clone());
        }
        return;
    };
    // A millisecond at least: 0 means "no limit" to some.
    let left_ms = u64::try_from(deadline.left().as_millis()).unwrap_or(u64::MAX).max(1);
    sink.set(X_EXPECTED_TIMEOUT, HeaderValue::from(left_ms));
    if is_grpc(headers)
        && let Ok(value) = HeaderValue::from_str(&grpc_value(left_ms))
    {
        sink.set(GRPC_TIMEOUT, value);
    }
}

/// Waits for something, but not past the deadline.
///
/// # Errors
/// 504 when it has passed.
pub(super) async fn within<T>(deadline: Option<Deadline>, future: impl Future<Output = T>) -> Result<T, Refusal> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => tokio::time::timeout(deadline.left(), future).await.map_err(|_| refusal()),
    }
}

/// What a client is told whose answer did not come in time.
pub(crate) fn refusal() -> Refusal {
    Refusal::new(Code::UpstreamTimeout).policy(&NAME).detail("the time for the whole request is over")
}

/// Whether the client speaks gRPC, to which an HTTP status means nothing.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// `100m`: up to eight digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > GRPC_DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// As exact as eight digits are.
fn grpc_value(left_ms: u64) -> String {
    if left_ms < 100_000_000 { format!("{left_ms}m") } else { format!("{}S", (left_ms / 1000).min(99_999_999)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read_as_the_protocol_says() {
        for (text, expected) in [
            ("100m", Some(Duration::from_millis(100))),
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("2M", Some(Duration::from_mins(2))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0n", Some(Duration::ZERO)),
            ("100000000m", None),
            ("m", None),
            ("", None),
            ("-1m", None),
            ("+1m", None),
            ("1s", None),
            ("1 m", None),
        ] {
            let read = grpc_timeout(&HeaderValue::from_static(text));
            assert_eq!(read, expected, "{text:?}");
        }
        assert_eq!(grpc_value(1), "1m");
        assert_eq!(grpc_value(99_999_999), "99999999m");
        assert_eq!(grpc_value(100_000_000), "100000S");
        assert_eq!(grpc_value(u64::MAX), "99999999S");
    }

    #[test]
    fn a_deadline_passes() {
        let now_ns = SystemClock.steady_ns();
        let minute = Deadline { ends_ns: now_ns + 60_000_000_000, until_head: false };
        assert!(!minute.is_over() && !minute.has_passed() && minute.left() > Duration::from_secs(50));
        let passed = Deadline { ends_ns: now_ns, until_head: false };
        assert!(passed.is_over() && passed.has_passed());
    }
}
