//! Trace: which trace a request belongs to, and whether it is told of.
//!
//! For: the fields `traceparent` and `tracestate` (W3C Trace Context, level 1), read and written. May touch: randomness.
//! Promises: a field that is malformed or there twice counts as not there, and a new trace begins; a decision to tell or
//! not to tell is made once, by whoever begins the trace; without a sampled trace nothing but two numbers is kept.
//! Read next: `span.rs`.

use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

/// The longest `tracestate` that is passed on, in bytes: what the specification asks to keep at least.
const STATE_BYTES_MAX: usize = 512;

/// The length of `traceparent` in the version that is known, in bytes.
const PARENT_BYTES: usize = 55;

/// What a caller says of the trace that its request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: TraceId,
    span: SpanId,
    is_sampled: bool,
    state: Option<Box<str>>,
}

/// The trace that a request belongs to, and the request's own place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub(super) id: TraceId,
    /// The span of the request itself.
    pub(super) span: SpanId,
    /// The caller's span, if the caller has named one.
    pub(super) parent: Option<SpanId>,
    is_sampled: bool,
    pub(super) state: Option<Box<str>>,
}

/// The share of traces that are told of. Decided by the trace's own number, so that programs with the same share agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Numbers of 63 bits below this one are told of.
    below: u64,
}

impl Parent {
    /// Reads the values of the two fields. `None` where the first is not there, is malformed or there more than once.
    #[must_use]
    pub fn read<'h>(
        traceparent: impl IntoIterator<Item = &'h [u8]>,
        tracestate: impl IntoIterator<Item = &'h [u8]>,
    ) -> Option<Self> {
        let mut values = traceparent.into_iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let (trace, span, is_sampled) = parse(value)?;
        Some(Self { trace, span, is_sampled, state: state(tracestate) })
    }
}

/// `00-<32 digits>-<16 digits>-<2 digits>`. Later versions may go on behind another hyphen (§4.2).
fn parse(value: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    let version = hexadecimal(value.get(..2)?)?;
    let known_length = value.len() == PARENT_BYTES;
    let goes_on = version != 0 && value.get(PARENT_BYTES) == Some(&b'-');
    if version == 0xff || !(known_length || goes_on) {
        return None;
    }
    if [2, 35, 52].iter().any(|place| value.get(*place) != Some(&b'-')) {
        return None;
    }
    let trace = hexadecimal(value.get(3..35)?)?;
    let span = u64::try_from(hexadecimal(value.get(36..52)?)?).ok()?;
    let flags = hexadecimal(value.get(53..PARENT_BYTES)?)?;
    if trace == 0 || span == 0 {
        return None;
    }
    Some((TraceId::from(trace), SpanId::from(span), flags & 1 == 1))
}

/// A number in hexadecimal digits, in lower case as the specification demands.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u128::from(digit))
    })
}

/// All values in one, if they are sound and short enough; a `tracestate` that is neither is dropped (§3.3.1).
fn state<'h>(values: impl IntoIterator<Item = &'h [u8]>) -> Option<Box<str>> {
    let values: Vec<&[u8]> = values.into_iter().collect();
    let length = values.iter().map(|value| value.len() + 1).sum::<usize>();
    if values.is_empty() || length > STATE_BYTES_MAX + 1 {
        return None;
    }
    let joined = String::from_utf8(values.join(&b","[..])).ok()?;
    let sound = joined.parse::<TraceState>().ok()?.header();
    (!sound.is_empty()).then(|| sound.into())
}

impl Sampling {
    /// So many of a hundred.
    #[must_use]
    pub fn share(percent: u8) -> Self {
        const ALL: u64 = 1 << 63;
        Self { below: if percent >= 100 { ALL } else { ALL / 100 * u64::from(percent) } }
    }

    /// Whether a trace of this number is told of: one comparison.
    fn takes(self, trace: u128) -> bool {
        let low = u64::try_from(trace & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        (low >> 1) < self.below
    }
}

impl Trace {
    /// The trace that a parent has begun, or a new one.
    pub(super) fn begin(parent: Option<Parent>, sampling: Sampling) -> Self {
        match parent {
            Some(Parent { trace, span, is_sampled, state }) => {
                Self { id: trace, span: new_span(), parent: Some(span), is_sampled, state }
            }
            None => {
                // Zero is no trace, and the lowest bit decides nothing.
                let id = rand::random::<u128>() | 1;
                let is_sampled = sampling.takes(id);
                Self { id: TraceId::from(id), span: new_span(), parent: None, is_sampled, state: None }
            }
        }
    }

    /// Its number; shows as 32 hexadecimal digits.
    #[must_use]
    pub const fn id(&self) -> TraceId {
        self.id
    }

    /// The span of the request itself.
    #[must_use]
    pub const fn span(&self) -> SpanId {
        self.span
    }

    /// Whether it is told of.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// `traceparent` for somebody whose spans shall stand below `span`.
    #[must_use]
    pub fn traceparent(&self, span: SpanId) -> String {
        format!("00-{}-{span}-{:02x}", self.id, self.flags().to_u8())
    }

    /// `tracestate` as it came.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    pub(super) fn flags(&self) -> TraceFlags {
        if self.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED }
    }
}

/// A number for a span that others are told before it ends. Never zero, which is none.
#[must_use]
pub fn new_span() -> SpanId {
    SpanId::from(rand::random::<u64>() | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(traceparent: &[&'static str], tracestate: &[&'static str]) -> Option<Parent> {
        let bytes = |values: &[&'static str]| values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
        Parent::read(bytes(traceparent), bytes(tracestate))
    }

    #[test]
    fn a_sound_parent_is_followed() {
        let parent = read(&[SOUND], &["congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7"]).expect("sound");
        let trace = Trace::begin(Some(parent), Sampling::share(0));
        assert!(trace.is_sampled(), "the parent's decision holds");
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent.map(|span| span.to_string()).as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(trace.tracestate(), Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
        let passed_on = trace.traceparent(trace.span());
        assert_eq!(passed_on.len(), SOUND.len());
        assert!(passed_on.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && passed_on.ends_with("-01"));
        assert_ne!(passed_on, SOUND, "the span is a new one");
        let unsampled = read(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"], &[]).expect("sound");
        assert!(!Trace::begin(Some(unsampled), Sampling::share(100)).is_sampled());
    }

    #[test]
    fn a_malformed_parent_counts_as_none() {
        let too_long = format!("{SOUND}-00");
        let later = too_long.replacen("00", "cc", 1);
        assert!(parse(later.as_bytes()).is_some(), "a later version may go on");
        let wrong = [
            "",
            "00",
            too_long.as_str(),
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b70-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ];
        for value in wrong {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(read(&[SOUND, SOUND], &[]), None, "two are none");
        assert_eq!(read(&[], &["a=b"]), None);
    }

    #[test]
    fn a_state_that_is_malformed_or_too_long_is_dropped() {
        let long: &'static str = Box::leak(format!("a={}", "x".repeat(STATE_BYTES_MAX)).into_boxed_str());
        for wrong in ["no pair", "UPPER=1", long, ""] {
            assert_eq!(read(&[SOUND], &[wrong]).expect("sound").state, None, "{wrong}");
        }
    }

    #[test]
    fn as_many_are_told_of_as_the_share_says() {
        let count = |percent: u8| {
            let sampling = Sampling::share(percent);
            (0..10_000).filter(|_| Trace::begin(None, sampling).is_sampled()).count()
        };
        assert_eq!((count(0), count(100)), (0, 10_000));
        let quarter = count(25);
        assert!((2_000..3_000).contains(&quarter), "{quarter} of 10000");
    }
}
