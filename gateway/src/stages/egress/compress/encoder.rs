//! Encoders: a body goes in piece by piece, and each piece comes out at once.
//!
//! For: gzip, Brotli and Zstandard in the service of streams. Promises: what came out so far decodes to all that went in;
//! an encoder holds about 1 MiB, however long the body.

use std::io::{self, Write};
use std::mem::take;

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression as GzipLevel;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::config::checked::Coding;

/// Fast levels, since the client waits: the next ones cost twice the time for a few percent of the size.
const GZIP_LEVEL: u32 = 4;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// How far back Brotli and Zstandard look for what they have seen before, as a power of two in bytes (128 KiB): it is what
/// their memory depends on. gzip's is 32 KiB.
const WINDOW_LOG: u32 = 17;

/// The step in which Brotli hands over what it made.
const BROTLI_STEP_BYTES: usize = 4096;

/// One body's encoder. Each is large, so it stands in a box.
pub(crate) enum Encoder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

impl Encoder {
    /// A new one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), GzipLevel::new(GZIP_LEVEL)))),
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), BROTLI_STEP_BYTES, BROTLI_QUALITY, WINDOW_LOG);
                Self::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut writer = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                writer.window_log(WINDOW_LOG)?;
                Self::Zstd(Box::new(writer))
            }
        })
    }

    /// Encodes a piece that more may follow; what comes back is all of it.
    ///
    /// # Errors
    /// When the encoder fails; it is of no use then.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let coded = match self {
            Self::Gzip(writer) => {
                write_through(writer, piece)?;
                take(writer.get_mut())
            }
            Self::Brotli(writer) => {
                write_through(writer, piece)?;
                take(writer.get_mut())
            }
            Self::Zstd(writer) => {
                write_through(writer, piece)?;
                take(writer.get_mut())
            }
        };
        Ok(coded.into())
    }

    /// Encodes the last piece, and ends the body.
    ///
    /// # Errors
    /// When the encoder fails.
    pub(crate) fn finish(self, piece: &[u8]) -> io::Result<Bytes> {
        let coded = match self {
            Self::Gzip(mut writer) => {
                writer.write_all(piece)?;
                writer.finish()?
            }
            Self::Brotli(mut writer) => {
                writer.write_all(piece)?;
                writer.into_inner()
            }
            Self::Zstd(mut writer) => {
                writer.write_all(piece)?;
                writer.finish()?
            }
        };
        Ok(coded.into())
    }
}

/// A flush makes the encoder give out everything that it holds back for better company.
fn write_through(writer: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    writer.write_all(piece)?;
    writer.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain),
            Coding::Zstd => {
                zstd::stream::read::Decoder::new(coded).and_then(|mut reader| reader.read_to_end(&mut plain))
            }
        }
        .unwrap_or_else(|error| panic!("{coding:?}: {error}"));
        plain
    }

    /// What decodes of a body that has not ended.
    fn decoded_so_far(coding: Coding, coded: &[u8], expected_bytes: usize) -> Vec<u8> {
        let mut plain = vec![0; expected_bytes];
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_exact(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_exact(&mut plain),
            Coding::Zstd => {
                zstd::stream::read::Decoder::new(coded).and_then(|mut reader| reader.read_exact(&mut plain))
            }
        }
        .unwrap_or_else(|error| panic!("{coding:?}: {error}"));
        plain
    }

    #[test]
    fn each_piece_comes_out_before_the_next_goes_in() {
        for coding in ALL {
            let mut encoder = Encoder::new(coding).expect("an encoder");
            let (mut plain, mut coded) = (Vec::new(), Vec::new());
            for number in 0..20 {
                let piece = format!("{{\"number\":{number},\"text\":\"the same as ever\"}}\n");
                plain.extend_from_slice(piece.as_bytes());
                coded.extend_from_slice(&encoder.piece(piece.as_bytes()).expect("encoded"));
                assert_eq!(decoded_so_far(coding, &coded, plain.len()), plain, "{coding:?} {number}");
            }
            coded.extend_from_slice(&encoder.finish(b"end").expect("ended"));
            plain.extend_from_slice(b"end");
            assert_eq!(decoded(coding, &coded), plain, "{coding:?}");
            assert!(coded.len() < plain.len(), "{coding:?}: {} of {}", coded.len(), plain.len());
        }
    }

    #[test]
    fn a_long_body_is_much_smaller() {
        let body = "{\"id\":12345,\"name\":\"capibara\",\"tags\":[\"water\",\"grass\"]},".repeat(20_000);
        for coding in ALL {
            let encoder = Encoder::new(coding).expect("an encoder");
            let coded = encoder.finish(body.as_bytes()).expect("ended");
            assert_eq!(decoded(coding, &coded), body.as_bytes(), "{coding:?}");
            assert!(coded.len() < body.len() / 50, "{coding:?}: {} of {}", coded.len(), body.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_pieces_come_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..8)) {
            for coding in ALL {
                let mut encoder = Encoder::new(coding).expect("an encoder");
                let mut coded = Vec::new();
                for piece in &pieces {
                    coded.extend_from_slice(&encoder.piece(piece).expect("encoded"));
                }
                coded.extend_from_slice(&encoder.finish(b"").expect("ended"));
                prop_assert_eq!(decoded(coding, &coded), pieces.concat());
            }
        }
    }
}
