//! Goaway: HTTP/2 connections that are ended for what their clients did.
//!
//! For: counting them. The HTTP/2 below Pingora ends a connection that floods it or breaks the protocol by itself, and tells its
//! client alone (GOAWAY, RFC 9113 §6.8), which passes here. May touch: nothing. Promises: what is written is read and not changed; a
//! connection counts once. Read next: `buffered.rs`.

use prometheus::IntCounterVec;

/// What each frame begins with (RFC 9113 §4.1).
const FRAME_HEAD_BYTES: usize = 9;

/// Type, flags and stream of the frame that ends a connection.
const GOAWAY: [u8; 6] = [7, 0, 0, 0, 0, 0];

/// Counts the end of one connection, by its error; nothing where it has been counted, or is none of HTTP/2.
#[derive(Debug)]
pub(super) struct Goaway(Option<IntCounterVec>);

impl Goaway {
    /// For a connection that does not count.
    pub(super) fn uncounted() -> Self {
        Self(None)
    }

    /// For a connection of HTTP/2.
    pub(super) fn counted(ended: IntCounterVec) -> Self {
        Self(Some(ended))
    }

    /// Looks at what is written next.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        if let Some(ended) = &self.0
            && let Some(error) = error_told(bytes)
        {
            ended.with_label_values(&[error]).inc();
            self.0 = None;
        }
    }
}

/// The error in these frames, if one of them ends the connection for one. What begins within a frame has none: it would need the
/// very bytes of such a frame.
fn error_told(mut frames: &[u8]) -> Option<&'static str> {
    while let Some((head, rest)) = frames.split_at_checked(FRAME_HEAD_BYTES) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if head[3..] == GOAWAY {
            return match payload.get(4..8)? {
                [0, 0, 0, 0] => None,
                [0, 0, 0, 1] => Some("protocol_error"),
                [0, 0, 0, 3] => Some("flow_control_error"),
                [0, 0, 0, 11] => Some("enhance_your_calm"),
                _ => Some("other"),
            };
        }
        frames = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_for_an_error_is_told_from_all_else() {
        const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
        let goaway = |code: u8| [&[0_u8, 0, 8][..], &GOAWAY, &[0, 0, 0, 1], &[0, 0, 0, code]].concat();
        for (frames, expected) in [
            (Vec::new(), None),
            (SETTINGS_ACK.to_vec(), None),
            (goaway(0), None),
            (goaway(1), Some("protocol_error")),
            ([SETTINGS_ACK, &goaway(11)].concat(), Some("enhance_your_calm")),
            (goaway(2), Some("other")),
            (goaway(1)[..12].to_vec(), None),
            // A DATA frame whose payload comes with the next write.
            (vec![0, 1, 0, 0, 0, 0, 0, 0, 1], None),
        ] {
            assert_eq!(error_told(&frames), expected, "{frames:?}");
        }
    }
}
