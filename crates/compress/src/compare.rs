//! Compares a variant with its original by content, where their times do not decide.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use tidegate_http::Coding;

/// Bytes decoded at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether `variant` is `original` with this coding. Reads only up to the first difference.
///
/// Fails if one of them cannot be read, or the variant is not valid data of this coding.
pub(crate) fn holds(coding: Coding, variant: File, original: impl Read) -> io::Result<bool> {
    let mut original = BufReader::with_capacity(BUFFER_BYTES, original);
    let content: Box<dyn Read> = match coding {
        Coding::Brotli => Box::new(brotli::Decompressor::new(variant, BUFFER_BYTES)),
        Coding::Zstd => Box::new(zstd::Decoder::new(variant)?),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(variant))),
    };
    let mut decoded = BufReader::with_capacity(BUFFER_BYTES, content);
    are_same(&mut decoded, &mut original)
}

fn are_same(one: &mut dyn BufRead, other: &mut dyn BufRead) -> io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        one.consume(count);
        other.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;
    use crate::encode::encode;
    use crate::options::Level;

    fn variant(coding: Coding, bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let len = bytes.len() as u64;
        encode(coding, Level::Fast, len, &mut &bytes[..], &mut file).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn contents_are_compared_to_their_end() {
        let long = b"0123456789abcdef".repeat(20_000);
        let mut other = long.clone();
        other[long.len() - 1] = b'x';
        let rows: [(&[u8], &[u8], bool); 7] = [
            (&long, &long, true),
            (b"", b"", true),
            (&long, &other, false),
            (&long, &long[1..], false),
            (&long[..long.len() - 1], &long, false),
            (&long, &long[..long.len() - 1], false),
            (b"", b"a", false),
        ];
        for coding in Coding::ALL {
            for (number, (content, original, expected)) in rows.into_iter().enumerate() {
                let holds = holds(coding, variant(coding, content), original).unwrap();
                assert_eq!(holds, expected, "{coding:?} {number}");
            }
        }
    }

    #[test]
    fn what_is_not_of_the_coding_is_an_error() {
        for coding in Coding::ALL {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[0xff; 300]).unwrap();
            file.rewind().unwrap();
            assert!(holds(coding, file, &[0xff; 300][..]).is_err(), "{coding:?}");
        }
    }
}
