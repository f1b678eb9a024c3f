//! Event stream: how far a server has come in its answer, and whether it stands between two events.
//!
//! For: one answer in HTTP/1.1 (RFC 9112), as its bytes pass: head, chunks, and in them the lines of `text/event-stream`
//! (WHATWG HTML §9.2). May touch: nothing, it only looks. Promises: it makes no difference how the bytes are cut; what it
//! keeps is bounded; whatever it does not know for certain counts as no place for a beat, to the end of the connection.
//! Read next: `heartbeat.rs`, which acts on it.

/// The largest head that is followed, in bytes; an answer with a larger one passes without beats.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The longest line of a chunk's size with its extensions that is followed, in bytes.
const SIZE_LINE_BYTES_MAX: usize = 1024;

/// Hexadecimal digits of a size, at most: it fits 64 bits then.
const SIZE_DIGITS_MAX: usize = 16;

/// The end of a head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The media type of events.
const EVENTS: &str = "text/event-stream";

/// Follows one answer, with those that may go before it (1xx).
#[derive(Debug)]
pub(super) struct Follower {
    place: Place,
    /// The part of a head that has come.
    head: Vec<u8>,
    lines: Lines,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    /// Before a chunk, of which nothing has come.
    Between,
    /// In the digits of a size.
    Size {
        digits: usize,
        size: u64,
    },
    /// In the extensions behind it.
    Extensions {
        line_bytes: usize,
        size: u64,
    },
    /// Behind the CR of that line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// Behind the data, before the CR that ends them.
    DataEnd,
    /// Between that CR and its LF.
    DataEnded,
    /// Nowhere that matters: no events, their end, or nothing that is understood. For good.
    Astray,
}

impl Follower {
    /// Before the first byte.
    pub(super) fn new() -> Self {
        Self { place: Place::Head, head: Vec::new(), lines: Lines::new() }
    }

    /// Whether a chunk of ours would neither be inside one of the server's, nor inside an event, nor behind the end.
    pub(super) fn stands_between_events(&self) -> bool {
        self.place == Place::Between && self.lines.are_between_events()
    }

    /// Takes in what the server has sent.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Astray => return,
                Place::Data { left } => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (data, behind) = bytes.split_at(count);
                    self.lines.take(data);
                    let left = left - data.len() as u64;
                    self.place = if left == 0 { Place::DataEnd } else { Place::Data { left } };
                    bytes = behind;
                }
                Place::Head => {
                    self.take_head(*byte);
                    bytes = rest;
                }
                place => {
                    self.place = frame(place, *byte);
                    bytes = rest;
                }
            }
        }
    }

    fn take_head(&mut self, byte: u8) {
        self.head.push(byte);
        if self.head.ends_with(HEAD_END) {
            self.place = judge(&std::mem::take(&mut self.head));
        } else if self.head.len() >= HEAD_BYTES_MAX {
            self.head = Vec::new();
            self.place = Place::Astray;
        }
    }
}

/// The place behind a byte of what frames the data (RFC 9112 §7.1). The size of a last chunk leads astray: nothing may come
/// behind it.
fn frame(place: Place, byte: u8) -> Place {
    match (place, byte) {
        (Place::Between, _) => digit(0, 0, byte).unwrap_or(Place::Astray),
        (Place::Size { size, .. } | Place::Extensions { size, .. }, b'\r') => Place::SizeEnd { size },
        (Place::Size { digits, size }, b';' | b' ' | b'\t') => Place::Extensions { line_bytes: digits + 1, size },
        (Place::Size { digits, size }, _) => digit(digits, size, byte).unwrap_or(Place::Astray),
        (Place::Extensions { line_bytes, size }, byte) if byte != b'\n' && line_bytes < SIZE_LINE_BYTES_MAX => {
            Place::Extensions { line_bytes: line_bytes + 1, size }
        }
        (Place::SizeEnd { size: left @ 1.. }, b'\n') => Place::Data { left },
        (Place::DataEnd, b'\r') => Place::DataEnded,
        (Place::DataEnded, b'\n') => Place::Between,
        _ => Place::Astray,
    }
}

/// One more digit of a size.
fn digit(digits: usize, size: u64, byte: u8) -> Option<Place> {
    let value = char::from(byte).to_digit(16)?;
    (digits < SIZE_DIGITS_MAX).then(|| Place::Size { digits: digits + 1, size: (size << 4) | u64::from(value) })
}

/// What follows a head.
fn judge(head: &[u8]) -> Place {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    match lines.next().and_then(status) {
        // A head of this kind goes before another one (RFC 9110 §15.2). Behind 101 there is no HTTP.
        Some(100 | 102..=199) => Place::Head,
        // The two have no body, whatever their head says (RFC 9112 §6.3).
        None | Some(101 | 204 | 304) => Place::Astray,
        Some(_) => {
            if brings_events(lines) {
                Place::Between
            } else {
                Place::Astray
            }
        }
    }
}

/// The status of an answer in HTTP/1.1.
fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    let digits = rest.split(' ').next()?;
    let status = (digits.len() == 3).then(|| digits.parse::<u16>().ok())??;
    (status >= 100 && is_plain(line)).then_some(status)
}

/// Whether the lines of a head say that events come in chunks, as they are. What can be read in two ways says no such thing.
fn brings_events<'h>(lines: impl Iterator<Item = &'h str>) -> bool {
    let (mut chunked, mut events) = (0, 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return false };
        // A line that goes on with that before it (RFC 9112 §5.2).
        if !is_plain(line) || name.starts_with([' ', '\t']) {
            return false;
        }
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => chunked += 1,
            "content-type" if is_of_events(value) => events += 1,
            "transfer-encoding" | "content-type" | "content-length" | "content-encoding" => return false,
            _ => {}
        }
    }
    chunked == 1 && events == 1
}

fn is_of_events(value: &str) -> bool {
    value.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(EVENTS))
}

/// Whether a line has no ends in it that others might take for ends.
fn is_plain(line: &str) -> bool {
    !line.contains(['\r', '\n', '\0'])
}

/// The lines of a stream, as far as they matter: an event ends with a blank one.
#[derive(Debug)]
struct Lines {
    line: Line,
    /// The last byte, and the one before it; 0 where there was none.
    last: u8,
    before: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Something of it is there.
    Begun,
    /// At the beginning of one, behind one that was not blank.
    Next,
    /// At the beginning of one, behind a blank one or none at all.
    Free,
}

impl Lines {
    fn new() -> Self {
        Self { line: Line::Free, last: 0, before: 0 }
    }

    fn take(&mut self, data: &[u8]) {
        // What went before the last byte that ends no line makes no difference.
        let from = data.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
        for byte in &data[from..] {
            self.line = match (byte, self.line) {
                // The second half of CR LF.
                (b'\n', line) if self.last == b'\r' => line,
                (b'\r' | b'\n', Line::Begun) => Line::Next,
                (b'\r' | b'\n', Line::Next | Line::Free) => Line::Free,
                _ => Line::Begun,
            };
            (self.before, self.last) = (self.last, *byte);
        }
    }

    /// A CR alone may be half of a CR LF; behind another CR it is none.
    fn are_between_events(&self) -> bool {
        self.line == Line::Free && (self.last != b'\r' || self.before == b'\r')
    }
}

#[cfg(test)]
mod tests;
