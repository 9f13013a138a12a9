//! Integers (RFC 7541, section 5.1).

use super::Error;

/// Bytes behind the prefix, at most: 2^32 - 1 needs five.
const CONTINUATION_BYTES_MAX: usize = 5;

/// Takes an integer with a prefix of `bits` from the front of `input`.
pub(super) fn read(input: &mut &[u8], bits: u32) -> Result<usize, Error> {
    let (&first, mut rest) = input.split_first().ok_or(Error::Truncated)?;
    let max = prefix_max(bits);
    let mut value = u64::from(first & max);
    if first & max == max {
        value += read_continuation(&mut rest)?;
    }
    *input = rest;
    u32::try_from(value).map_or(Err(Error::Integer), |value| Ok(value as usize))
}

fn read_continuation(input: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for (index, byte) in input.iter().take(CONTINUATION_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(if input.len() < CONTINUATION_BYTES_MAX {
        Error::Truncated
    } else {
        Error::Integer
    })
}

/// Appends `value` with a prefix of `bits`; `pattern` is the bits before it.
#[inline]
pub(super) fn write(value: usize, pattern: u8, bits: u32, out: &mut Vec<u8>) {
    let max = prefix_max(bits);
    if value < usize::from(max) {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | max);
    let mut rest = value - usize::from(max);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The largest value of a prefix, which says that more follows.
const fn prefix_max(bits: u32) -> u8 {
    u8::MAX >> (u8::BITS - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_appendix_c_1() {
        let cases: [(&[u8], u32, usize); 8] = [
            (&[0b0000_1010], 5, 10),
            (&[0b1010_1010], 5, 10),
            (&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5, 1337),
            (&[42], 8, 42),
            (&[0x1f, 0], 5, 31),
            (&[0xff, 0], 8, 255),
            (&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x0f], 7, 0xf000_007f),
            // Zeros on top are allowed, since they change nothing.
            (&[0x1f, 0x80, 0x80, 0x00], 5, 31),
        ];
        for (bytes, bits, value) in cases {
            let mut input = bytes;
            assert_eq!(read(&mut input, bits), Ok(value), "{bytes:x?}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn integers_end_and_are_limited() {
        let cases: [(&[u8], Error); 6] = [
            (&[], Error::Truncated),
            (&[0x1f], Error::Truncated),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff], Error::Truncated),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0x0f], Error::Integer),
            (&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80], Error::Integer),
            (&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Error::Integer),
        ];
        for (bytes, error) in cases {
            assert_eq!(read(&mut &bytes[..], 5), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn an_integer_is_read_as_it_was_written() {
        for bits in 4..=8 {
            for value in (0..70_000).chain([1 << 20, u32::MAX as usize]) {
                let mut out = Vec::new();
                write(value, 0, bits, &mut out);
                out.push(0xaa);
                let mut input = &out[..];
                assert_eq!(read(&mut input, bits), Ok(value));
                assert_eq!(input, [0xaa]);
            }
        }
    }
}
