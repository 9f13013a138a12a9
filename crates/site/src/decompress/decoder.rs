//! One interface to the decoders. No I/O: input of any length, output in bounded pieces.

use std::io::{self, BufRead, ErrorKind, Read};

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use tidegate_http::Coding;

/// Bytes of output of one step, at most.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Bytes of the input buffer of the brotli decoder.
const BROTLI_INPUT_BYTES: usize = 4 * 1024;

/// Bytes of a decoder without its window and its input: tables and buffers.
const TABLES_BYTES: usize = 192 * 1024;

/// The largest window of zstd for a content coding, as a power of two (RFC 9659).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The largest window of brotli (RFC 7932, section 9.1).
const BROTLI_WINDOW_LOG_MAX: u32 = 24;

/// The decoder of one file.
pub(crate) enum Decoder {
    Brotli(Box<Decompressor<Input>>),
    Zstd(zstd::stream::read::Decoder<'static, Input>),
    Gzip(Box<MultiGzDecoder<Input>>),
}

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The output: at most [`PIECE_BYTES`].
    pub(crate) bytes: Vec<u8>,
    pub(crate) next: Next,
}

/// What a decoder needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another step: there is more output.
    Step,
    /// Input.
    Input,
    /// Nothing: the file is decoded.
    End,
}

impl Decoder {
    /// # Errors
    ///
    /// Out of memory.
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        let input = Input::default();
        Ok(match coding {
            Coding::Brotli => {
                let mut decoder = Decompressor::new(input, BROTLI_INPUT_BYTES);
                // Windows above 16 MiB are not in RFC 7932.
                let parameter = BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW;
                decoder.set_parameter(parameter, 0);
                Self::Brotli(Box::new(decoder))
            }
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Self::Zstd(decoder)
            }
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
        })
    }

    /// The most bytes of memory that decoding a file takes that begins with `start`.
    pub(crate) fn memory(coding: Coding, start: &[u8]) -> usize {
        let window_log = match coding {
            Coding::Brotli => brotli_window_log(start),
            // A later frame may have a larger window than the first.
            Coding::Zstd => ZSTD_WINDOW_LOG_MAX,
            Coding::Gzip => 15,
        };
        TABLES_BYTES + (1 << window_log)
    }

    /// Sets the next input, after all input before was consumed. Empty: the file ended.
    pub(crate) fn feed(&mut self, bytes: Bytes) {
        let input = match self {
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
            Self::Gzip(decoder) => decoder.get_mut(),
        };
        input.ended = bytes.is_empty();
        input.bytes = bytes;
    }

    /// Decodes until a piece is full or the input is consumed.
    ///
    /// # Errors
    ///
    /// The file is corrupt or truncated, or its window is too large.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let mut bytes = vec![0; PIECE_BYTES];
        let mut len = 0;
        let next = loop {
            if len == bytes.len() {
                break Next::Step;
            }
            match self.read(&mut bytes[len..]) {
                Ok(0) => break Next::End,
                Ok(count) => len += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Next::Input,
                Err(error) => return Err(error),
            }
        };
        bytes.truncate(len);
        Ok(Step { bytes, next })
    }

    /// Decodes a whole file, unless it is corrupt or its output is longer than `len_max`.
    pub(crate) fn all(&mut self, bytes: Bytes, len_max: usize) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        self.feed(bytes);
        loop {
            let step = self.step().ok()?;
            all.extend_from_slice(&step.bytes);
            match step.next {
                _ if all.len() > len_max => return None,
                Next::Step => {}
                Next::Input => self.feed(Bytes::new()),
                Next::End => return Some(all),
            }
        }
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Brotli(decoder) => decoder.read(out),
            Self::Zstd(decoder) => decoder.read(out),
            Self::Gzip(decoder) => decoder.read(out),
        }
    }
}

/// The window of a stream of brotli, as a power of two (RFC 7932, section 9.1).
fn brotli_window_log(start: &[u8]) -> u32 {
    let first = u32::from(start.first().copied().unwrap_or(0));
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        // A large window, which `step` refuses.
        (_, 0, 1) => BROTLI_WINDOW_LOG_MAX,
        (_, 0, high) => 8 + high,
        (_, low, _) => 17 + low,
    }
}

/// The input of a decoder. A read without data fails with `WouldBlock` until the file ended.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Bytes,
    ended: bool,
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.len().min(out.len());
        self.bytes.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn encoded(coding: Coding, plain: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
                encoder.write_all(plain).unwrap();
                encoder.into_inner()
            }
            Coding::Zstd => zstd::encode_all(plain, 3).unwrap(),
            Coding::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn text(len: usize) -> Vec<u8> {
        let words = (0_u32..).map(|n| format!("word {} ", n.wrapping_mul(2_654_435_761) >> 20));
        words.flat_map(String::into_bytes).take(len).collect()
    }

    /// Decodes `bytes`, fed in pieces of `piece` bytes.
    fn decoded(coding: Coding, bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding)?;
        let mut fed = bytes.chunks(piece);
        let mut plain = Vec::new();
        loop {
            let step = decoder.step()?;
            assert!(step.bytes.len() <= PIECE_BYTES);
            plain.extend_from_slice(&step.bytes);
            match step.next {
                Next::Step => {}
                Next::Input => decoder.feed(Bytes::copy_from_slice(fed.next().unwrap_or_default())),
                Next::End => return Ok(plain),
            }
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_however_it_comes() {
        for coding in Coding::ALL {
            for len in [0, 1, 1000, PIECE_BYTES, 300_000] {
                let plain = text(len);
                let encoded = encoded(coding, &plain);
                for piece in [1, 7, 4096, usize::MAX] {
                    let decoded = decoded(coding, &encoded, piece).unwrap();
                    assert!(decoded == plain, "{coding:?} {len} {piece}");
                }
            }
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let both = [encoded(coding, b"one "), encoded(coding, b"two")].concat();
            assert_eq!(decoded(coding, &both, 5).unwrap(), b"one two", "{coding:?}");
        }
    }

    #[test]
    fn what_is_cut_short_or_changed_is_an_error() {
        for coding in Coding::ALL {
            let encoded = encoded(coding, &text(100_000));
            for len in [1, encoded.len() / 2, encoded.len() - 1] {
                let cut = decoded(coding, &encoded[..len], 1000);
                assert!(cut.is_err(), "{coding:?} {len}");
            }
            assert!(
                decoded(coding, b"not compressed", 1000).is_err(),
                "{coding:?}"
            );
        }
        let mut changed = encoded(Coding::Gzip, &text(100_000));
        let check = changed.len() - 8;
        changed[check] ^= 1;
        assert!(
            decoded(Coding::Gzip, &changed, 1000).is_err(),
            "RFC 1952, 2.3.1: CRC32"
        );
    }

    #[test]
    fn a_bomb_comes_out_in_pieces() {
        let plain = vec![0; 50 << 20];
        for coding in Coding::ALL {
            let encoded = encoded(coding, &plain);
            assert!(
                encoded.len() < plain.len() / 900,
                "{coding:?} {}",
                encoded.len()
            );
            let decoded = decoded(coding, &encoded, usize::MAX).unwrap();
            assert_eq!(decoded.len(), plain.len(), "{coding:?}");
        }
    }

    #[test]
    fn windows_that_are_no_content_coding_are_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&vec![0; 17 << 20]).unwrap();
        let large = encoder.finish().unwrap();
        assert!(
            decoded(Coding::Zstd, &large, usize::MAX).is_err(),
            "RFC 9659"
        );
        assert!(
            decoded(Coding::Brotli, b"\x11\x1a\x03", 1).is_err(),
            "RFC 7932, 9.1"
        );
    }

    #[test]
    fn memory_is_known_by_the_window() {
        #[rustfmt::skip] // one row a line
        let cases = [
            (Coding::Gzip, 0x1f, 15),
            (Coding::Zstd, 0x28, 23),
            // RFC 7932, section 9.1.
            (Coding::Brotli, 0b000_0000, 16),
            (Coding::Brotli, 0b000_0011, 18),
            (Coding::Brotli, 0b000_1111, 24),
            (Coding::Brotli, 0b000_0001, 17),
            (Coding::Brotli, 0b010_0001, 10),
            (Coding::Brotli, 0b111_0001, 15),
            (Coding::Brotli, 0b001_0001, 24),
        ];
        for (coding, first, window_log) in cases {
            let memory = Decoder::memory(coding, &[first]);
            assert_eq!(
                memory,
                TABLES_BYTES + (1 << window_log),
                "{coding:?} {first:b}"
            );
        }
        assert_eq!(
            Decoder::memory(Coding::Brotli, &[]),
            TABLES_BYTES + (1 << 16)
        );
    }
}
