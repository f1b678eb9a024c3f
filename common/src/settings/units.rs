//! Units: durations, sizes and shares as an operator writes them.

use std::fmt;
use std::time::Duration;

use super::decode::{Decode, Decoder};
use super::node::{Node, Value};
use super::shape::Shape;

/// A length of time: `250ms`, `10s`, `5m`, `1h`, `7d`. Kept in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(u64);

/// A size: `512`, `64KiB`, `10MiB`, `1GiB`. Kept in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A share of a hundred: `20%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

/// The longest time that can be set: 366 days, so that sums of times never overflow.
const MILLIS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

impl Millis {
    /// As the standard library's duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, factor) =
            split_unit(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)])?;
        number.checked_mul(factor).filter(|millis| *millis <= MILLIS_MAX).map(Self)
    }
}

impl ByteSize {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, factor) = split_unit(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)])?;
        number.checked_mul(factor).map(Self)
    }
}

impl Percent {
    /// From 0 to 100.
    #[must_use]
    pub const fn percent(self) -> u8 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        text.strip_suffix('%')?.parse().ok().filter(|percent| *percent <= 100).map(Self)
    }
}

/// Splits `10s` into 10 and the factor of `s`. The first unit that fits counts, so longer ones stand first.
fn split_unit(text: &str, units: &[(&str, u64)]) -> Option<(u64, u64)> {
    units.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?;
        let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if sound { Some((digits.parse().ok()?, *factor)) } else { None }
    })
}

impl Decode for Millis {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let parsed = match &node.value {
            Value::Text(text) => Self::parse(text),
            _ => None,
        };
        parsed.or_else(|| {
            decoder.unexpected(node, "a duration with its unit, such as 250ms, 10s, 5m, 1h or 7d (366d at most)")
        })
    }

    fn shape() -> Shape {
        Shape::text("duration")
    }
}

impl Decode for ByteSize {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let parsed = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok().map(Self),
            Value::Text(text) => Self::parse(text),
            _ => None,
        };
        parsed.or_else(|| decoder.unexpected(node, "a size, such as 512, 64KiB, 10MiB or 1GiB"))
    }

    fn shape() -> Shape {
        Shape::text("size")
    }
}

impl Decode for Percent {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let parsed = match &node.value {
            Value::Text(text) => Self::parse(text),
            _ => None,
        };
        parsed.or_else(|| decoder.unexpected(node, "a share from 0% to 100%"))
    }

    fn shape() -> Shape {
        Shape::text("percentage")
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.duration())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        let times = [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000)];
        for (text, millis) in times {
            assert_eq!(Millis::parse(text), Some(Millis(millis)), "{text}");
        }
        for wrong in ["10", "s", "-1s", "1.5s", "10 s", "1w", "367d", "99999999999999999999s"] {
            assert_eq!(Millis::parse(wrong), None, "{wrong}");
        }
        assert_eq!(ByteSize::parse("64KiB"), Some(ByteSize(65_536)));
        assert_eq!(ByteSize::parse("64kb"), None);
        assert_eq!(Percent::parse("20%"), Some(Percent(20)));
        assert_eq!(Percent::parse("101%"), None);
    }
}
