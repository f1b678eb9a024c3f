//! SSE: the events of a stream of server-sent events (HTML Living Standard §9.2.6), out of bytes as they come.
//!
//! For: `reading.rs`. Only `data` is kept: names and ids mean nothing in this API. May touch: nothing.
//! Promises: a line has `LINE_BYTES_MAX` bytes at most and an event `EVENT_BYTES_MAX`; where pieces of bytes begin and
//! end makes no difference. Read next: `reading.rs`.

use std::mem;

/// The longest line, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 256 * 1024;
/// The most data of one event, in bytes.
pub(super) const EVENT_BYTES_MAX: usize = 512 * 1024;

/// May stand before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a carriage return, which ends a line with or without a line feed after it.
    after_return: bool,
    /// The first line is over.
    begun: bool,
}

/// A line or an event is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    /// How long it may be, in bytes.
    pub(super) bytes_max: usize,
}

impl Parser {
    /// Takes the next bytes in. The data of each event that they complete goes to `events`.
    pub(super) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        for &byte in bytes {
            let after_return = mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_line(events)?,
                _ if self.line.len() == LINE_BYTES_MAX => return Err(TooLong { bytes_max: LINE_BYTES_MAX }),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        let taken = mem::take(&mut self.line);
        let mut line = taken.as_slice();
        if !mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            if mem::take(&mut self.has_data) {
                events.push(mem::take(&mut self.data));
            }
            return Ok(());
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        if name == b"data" { self.add(value.strip_prefix(b" ").unwrap_or(value)) } else { Ok(()) }
    }

    fn add(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.data.len().saturating_add(value.len()) >= EVENT_BYTES_MAX {
            return Err(TooLong { bytes_max: EVENT_BYTES_MAX });
        }
        if mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Result<Vec<String>, TooLong> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.feed(piece, &mut events)?;
        }
        Ok(events.into_iter().map(|event| String::from_utf8(event).expect("text")).collect())
    }

    #[test]
    fn events_are_found_wherever_the_bytes_are_cut() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("data: one\n\n", &["one"]),
            ("data:one\n\n", &["one"]),
            ("data:  two spaces\n\n", &[" two spaces"]),
            ("data: one\r\n\r\n", &["one"]),
            ("data: one\r\rdata: two\r\r", &["one", "two"]),
            ("data: one\ndata: two\n\n", &["one\ntwo"]),
            ("\u{feff}data: one\n\n", &["one"]),
            (": ping\n\ndata: one\n\n: ping\n\n", &["one"]),
            ("event: delta\nid: 7\nretry: 5\ndata: one\n\n", &["one"]),
            ("data\n\n", &[""]),
            ("data: a:b\n\n", &["a:b"]),
            ("datax: one\n\n", &[]),
            ("\n\n\n", &[]),
            ("data: no end", &[]),
            ("data: no blank line\n", &[]),
            ("data: ä€𝄞\n\n", &["ä€𝄞"]),
        ];
        for (text, expected) in cases {
            let bytes = text.as_bytes();
            assert_eq!(parse(&[bytes]).as_deref(), Ok(to_owned(expected).as_slice()), "{text:?}");
            for place in 0..bytes.len() {
                let (left, right) = bytes.split_at(place);
                assert_eq!(
                    parse(&[left, right]).as_deref(),
                    Ok(to_owned(expected).as_slice()),
                    "{text:?} at {place}"
                );
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(parse(&single).as_deref(), Ok(to_owned(expected).as_slice()), "{text:?} byte by byte");
        }
    }

    fn to_owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_line_and_an_event_have_an_end() {
        let longest = [b"data: ".to_vec(), vec![b'x'; LINE_BYTES_MAX - 6], b"\n\n".to_vec()].concat();
        assert_eq!(parse(&[&longest]).map(|events| events.len()), Ok(1));
        let longer = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(parse(&[&longer]), Err(TooLong { bytes_max: LINE_BYTES_MAX }));
        let line = [b"data: ".to_vec(), vec![b'x'; 1024], b"\n".to_vec()].concat();
        let event = line.repeat(EVENT_BYTES_MAX / 1024 + 1);
        assert_eq!(parse(&[&event]), Err(TooLong { bytes_max: EVENT_BYTES_MAX }));
    }
}
