//! The compressors. Each streams, so memory does not depend on a file's size. The same bytes always
//! give the same variant: it contains neither time nor name of the file.

use std::io::{self, Read, Write};

use brotli::CompressorReader;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use tidegate_http::Coding;

use crate::options::Level;

/// Bytes that are handed to brotli at once.
const BROTLI_READ_BYTES: usize = 4 << 10;
/// brotli's largest window, as a power of two: 4 MiB. More would help few files, and every client
/// must hold the window in memory.
const BROTLI_WINDOW_LOG_MAX: u32 = 22;
/// brotli's smallest window.
const BROTLI_WINDOW_LOG_MIN: u32 = 10;
/// zstd's largest window that browsers accept, as a power of two (RFC 9659).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Compresses `source`, which has `len` bytes, into `sink`.
pub(crate) fn encode(
    coding: Coding,
    level: Level,
    len: u64,
    source: &mut dyn Read,
    sink: &mut dyn Write,
) -> io::Result<()> {
    let setting = setting(coding, level);
    match coding {
        Coding::Brotli => brotli(setting, len, source, sink),
        Coding::Zstd => zstd(setting, len, source, sink),
        Coding::Gzip => gzip(setting, source, sink),
    }
}

/// The approximate time per byte, in a unit of its own.
pub(crate) fn cost(coding: Coding, level: Level) -> u64 {
    match (level, coding) {
        (Level::Best, Coding::Brotli) => 24,
        (Level::Best, Coding::Zstd) => 6,
        _ => 1,
    }
}

fn setting(coding: Coding, level: Level) -> u32 {
    match (level, coding) {
        (Level::Best, Coding::Brotli) => 11,
        (Level::Best, Coding::Zstd) => 19,
        (Level::Best, Coding::Gzip) | (Level::Fast, Coding::Zstd) => 9,
        (Level::Fast, Coding::Brotli) => 5,
        (Level::Fast, Coding::Gzip) => 6,
    }
}

fn brotli(quality: u32, len: u64, source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    let parameters = BrotliEncoderParams {
        quality: quality.cast_signed(),
        lgwin: brotli_window_log(len).cast_signed(),
        size_hint: usize::try_from(len).unwrap_or(usize::MAX),
        ..BrotliEncoderParams::default()
    };
    // Not `BrotliCompress`: when the source fails, it first compresses all that it has read.
    let mut encoder = CompressorReader::with_params(source, BROTLI_READ_BYTES, &parameters);
    io::copy(&mut encoder, sink).map(drop)
}

/// The smallest window that holds the whole file, as a power of two, so that small files take
/// little memory to compress and to decompress. 16 bytes of a window are not usable (RFC 7932,
/// section 9.1).
fn brotli_window_log(len: u64) -> u32 {
    let bits = u64::BITS - len.saturating_add(15).leading_zeros();
    bits.clamp(BROTLI_WINDOW_LOG_MIN, BROTLI_WINDOW_LOG_MAX)
}

fn zstd(level: u32, len: u64, source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(sink, level.cast_signed())?;
    encoder.set_pledged_src_size(Some(len))?;
    if len > 1 << ZSTD_WINDOW_LOG_MAX {
        encoder.window_log(ZSTD_WINDOW_LOG_MAX)?;
    }
    io::copy(source, &mut encoder)?;
    encoder.finish().map(drop)
}

fn gzip(level: u32, source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    let mut encoder = GzEncoder::new(sink, Compression::new(level));
    io::copy(source, &mut encoder)?;
    encoder.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    fn encoded(coding: Coding, level: Level, bytes: &[u8]) -> Vec<u8> {
        let mut sink = Vec::new();
        let len = bytes.len() as u64;
        encode(coding, level, len, &mut &bytes[..], &mut sink).unwrap();
        sink
    }

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        match coding {
            Coding::Brotli => brotli::BrotliDecompress(&mut &bytes[..], &mut decoded),
            Coding::Zstd => zstd::stream::copy_decode(bytes, &mut decoded),
            Coding::Gzip => io::copy(&mut GzDecoder::new(bytes), &mut decoded).map(drop),
        }
        .unwrap();
        decoded
    }

    fn text(len: usize) -> Vec<u8> {
        let words = (0_u32..).map(|n| format!("word {} ", n.wrapping_mul(2_654_435_761) >> 20));
        words.flat_map(String::into_bytes).take(len).collect()
    }

    #[test]
    fn what_is_decoded_is_what_was_encoded() {
        for coding in Coding::ALL {
            for level in [Level::Best, Level::Fast] {
                for len in [0, 1, 255, 20_000, 300_000] {
                    let bytes = text(if level == Level::Best { len / 8 } else { len });
                    let encoded = encoded(coding, level, &bytes);
                    assert_eq!(
                        decoded(coding, &encoded),
                        bytes,
                        "{coding:?} {level:?} {len}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_same_bytes_give_the_same_variant() {
        let bytes = text(5000);
        for coding in Coding::ALL {
            let variants = [(); 2].map(|()| encoded(coding, Level::Best, &bytes));
            assert_eq!(variants[0], variants[1], "{coding:?}");
        }
    }

    /// Not tested for gzip, whose levels differ by only a few bytes in a file of this size.
    #[test]
    fn best_is_smaller_than_fast() {
        let bytes = include_bytes!("encode.rs");
        for coding in [Coding::Brotli, Coding::Zstd] {
            let [best, fast] =
                [Level::Best, Level::Fast].map(|level| encoded(coding, level, bytes));
            assert!(best.len() < fast.len(), "{coding:?}");
        }
    }

    #[test]
    fn the_window_of_brotli_holds_a_small_file() {
        let rows = [
            (0, 10),
            (1008, 10),
            (1009, 11),
            ((1 << 21) - 16, 21),
            ((1 << 21) - 15, 22),
            (1 << 40, 22),
            (u64::MAX, 22),
        ];
        for (len, expected) in rows {
            assert_eq!(brotli_window_log(len), expected, "{len}");
        }
    }

    /// RFC 9659: browsers refuse more than 8 MiB. RFC 8878, section 3.1.1.1.2, defines
    /// `Window_Descriptor`.
    #[test]
    fn the_window_of_zstd_is_one_that_browsers_take() {
        let bytes = vec![b'x'; (1 << 23) + 1];
        for level in [Level::Best, Level::Fast] {
            let frame = encoded(Coding::Zstd, level, &bytes);
            let (descriptor, window) = (frame[4], frame[5]);
            assert_eq!(descriptor & 0x20, 0, "not a single segment");
            let base = 1_u64 << (10 + (window >> 3));
            let size = base + base / 8 * u64::from(window & 7);
            assert!(size <= 8 << 20, "{level:?}: {size}");
        }
    }

    #[test]
    fn a_sink_that_is_full_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = text(3000);
        for coding in Coding::ALL {
            let result = encode(coding, Level::Fast, 3000, &mut &bytes[..], &mut Full);
            assert_eq!(
                result.unwrap_err().kind(),
                io::ErrorKind::StorageFull,
                "{coding:?}"
            );
        }
    }

    /// A stop is a failure: bytes read before it are not compressed either.
    #[test]
    fn brotli_gives_up_at_once_with_its_source() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let bytes = text(20_000);
        let mut source = bytes.as_slice().chain(Broken);
        let mut sink = Vec::new();
        encode(Coding::Brotli, Level::Best, 40_000, &mut source, &mut sink).unwrap_err();
        assert_eq!(sink, b"");
    }

    #[test]
    fn a_source_that_fails_is_an_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        for coding in Coding::ALL {
            let result = encode(coding, Level::Best, 3000, &mut Broken, &mut io::sink());
            assert_eq!(result.unwrap_err().to_string(), "broken", "{coding:?}");
        }
    }
}
