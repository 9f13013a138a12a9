//! The Huffman code for strings (RFC 7541, section 5.2 and appendix B).
//!
//! It is canonical: codes of one length are consecutive, in the order of their symbols, and follow
//! those of the lengths below. So the lengths are all of it. Short codes, nearly all that clients
//! send, are looked up, two at once where they fit; any other is found by its length.

use super::Error;

const SYMBOLS: usize = 257;

/// The end of a string, which must not be in it.
const EOS: u16 = 256;

/// The length of each symbol's code, in bits.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LENGTH_MIN: usize = 5;
const LENGTH_MAX: usize = 30;

/// Bits that [`PAIRS`] looks at: two codes of 6 bits, and all of 8.
const PAIR_BITS: u32 = 12;

/// The code of each symbol, in its lowest bits.
static CODES: [u32; SYMBOLS] = CANONICAL.codes;

/// What starts with these bits.
static PAIRS: [Pair; 1 << PAIR_BITS] = pairs();

/// One or two symbols whose codes are in [`PAIR_BITS`] bits.
#[derive(Clone, Copy)]
struct Pair {
    symbols: [u8; 2],
    /// How many there are; 0 if the first code is longer.
    count: u8,
    /// The length of their codes, in bits.
    length: u8,
}

/// All that follows from [`LENGTHS`].
const CANONICAL: Canonical = Canonical::of_lengths();

static CODE: Canonical = CANONICAL;

struct Canonical {
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: where its first symbol is in `symbols`.
    first_symbol: [u16; LENGTH_MAX + 1],
    /// For each length: its first code.
    first_code: [u32; LENGTH_MAX + 1],
    /// For each length: the first 32 bits that start with a longer code.
    end: [u64; LENGTH_MAX + 1],
}

impl Canonical {
    const fn of_lengths() -> Self {
        let mut this = Self {
            codes: [0; SYMBOLS],
            symbols: [0; SYMBOLS],
            first_symbol: [0; LENGTH_MAX + 1],
            first_code: [0; LENGTH_MAX + 1],
            end: [0; LENGTH_MAX + 1],
        };
        let mut code = 0;
        let mut count = 0;
        let mut length = LENGTH_MIN;
        while length <= LENGTH_MAX {
            code <<= 1;
            this.first_code[length] = code;
            this.first_symbol[length] = count as u16;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    this.codes[symbol] = code;
                    this.symbols[count] = symbol as u16;
                    code += 1;
                    count += 1;
                }
                symbol += 1;
            }
            this.end[length] = (code as u64) << (32 - length);
            length += 1;
        }
        this
    }

    /// The symbol whose code is at the start of `bits`, and the length of its code.
    const fn symbol(&self, bits: u32) -> (u16, u32) {
        let mut length = LENGTH_MIN;
        while bits as u64 >= self.end[length] {
            length += 1;
        }
        let code = bits >> (32 - length);
        let index = self.first_symbol[length] as u32 + code - self.first_code[length];
        (self.symbols[index as usize], length as u32)
    }
}

const fn pairs() -> [Pair; 1 << PAIR_BITS] {
    let none = Pair {
        symbols: [0; 2],
        count: 0,
        length: 0,
    };
    let mut table = [none; 1 << PAIR_BITS];
    let mut bits: u32 = 0;
    while bits < 1 << PAIR_BITS {
        let pair = &mut table[bits as usize];
        let mut rest = bits << (32 - PAIR_BITS);
        while pair.count < 2 {
            let (symbol, length) = CANONICAL.symbol(rest);
            if pair.length as u32 + length > PAIR_BITS {
                break;
            }
            pair.symbols[pair.count as usize] = symbol as u8;
            pair.count += 1;
            pair.length += length as u8;
            rest <<= length;
        }
        bits += 1;
    }
    table
}

/// Bits that are read, the next one on top; zeros behind them.
struct Bits<'a> {
    rest: &'a [u8],
    next: u64,
    count: u32,
}

impl Bits<'_> {
    /// Reads on until there are more than 56 bits, or the input ends.
    #[inline]
    fn refill(&mut self) {
        if let Some(next) = self.rest.first_chunk() {
            // Bits beyond the last whole byte are read again, as the same.
            self.next |= u64::from_be_bytes(*next) >> self.count;
            let bytes = (63 - self.count) / 8;
            self.rest = &self.rest[bytes as usize..];
            self.count += bytes * 8;
            return;
        }
        while self.count <= 56
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.next |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            self.rest = rest;
        }
    }

    fn consume(&mut self, count: u32) {
        self.next <<= count;
        self.count -= count;
    }
}

/// Appends the string that `encoded` is the code of.
pub(super) fn decode(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut len = out.len();
    // One byte more, as symbols are written in pairs.
    out.resize(len + encoded.len() * 8 / LENGTH_MIN + 1, 0);
    let mut input = Bits {
        rest: encoded,
        next: 0,
        count: 0,
    };
    loop {
        if input.count < LENGTH_MAX as u32 {
            input.refill();
        }
        let pair = PAIRS[(input.next >> (64 - PAIR_BITS)) as usize];
        if pair.count > 0 && u32::from(pair.length) <= input.count {
            out[len..len + 2].copy_from_slice(&pair.symbols);
            len += usize::from(pair.count);
            input.consume(u32::from(pair.length));
            continue;
        }
        let (symbol, length) = CODE.symbol((input.next >> 32) as u32);
        if length > input.count {
            out.truncate(len);
            return is_padding(&input).then_some(()).ok_or(Error::Huffman);
        }
        if symbol == EOS {
            return Err(Error::Huffman);
        }
        out[len] = symbol as u8;
        len += 1;
        input.consume(length);
    }
}

/// Whether less than a byte is left, all ones: the start of EOS.
fn is_padding(input: &Bits<'_>) -> bool {
    input.count < 8 && input.next.leading_ones() == input.count
}

/// The bytes that `text` becomes.
pub(super) fn encoded_len(text: impl Iterator<Item = u8>) -> usize {
    let bits: usize = text
        .map(|byte| usize::from(LENGTHS[usize::from(byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends the code of `text`.
pub(super) fn encode(text: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let mut bits: u64 = 0;
    let mut count = 0;
    for byte in text {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << length | u64::from(CODES[usize::from(byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | u8::MAX >> count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text.iter().copied(), &mut out);
        assert_eq!(out.len(), encoded_len(text.iter().copied()));
        out
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = b"before".to_vec();
        decode(bytes, &mut out)?;
        Ok(out.split_off(6))
    }

    #[test]
    fn codes_are_those_of_appendix_b() {
        // The first and the last of each length.
        let cases: [(u16, u32); 42] = [
            (48, 0x0),
            (116, 0x9),
            (32, 0x14),
            (117, 0x2d),
            (58, 0x5c),
            (122, 0x7b),
            (38, 0xf8),
            (90, 0xfd),
            (33, 0x3f8),
            (63, 0x3fc),
            (39, 0x7fa),
            (124, 0x7fc),
            (35, 0xffa),
            (62, 0xffb),
            (0, 0x1ff8),
            (126, 0x1ffd),
            (94, 0x3ffc),
            (125, 0x3ffd),
            (60, 0x7ffc),
            (123, 0x7ffe),
            (92, 0x7_fff0),
            (208, 0x7_fff2),
            (128, 0xf_ffe6),
            (226, 0xf_ffed),
            (153, 0x1f_ffdc),
            (230, 0x1f_ffe8),
            (129, 0x3f_ffd2),
            (233, 0x3f_ffeb),
            (1, 0x7f_ffd8),
            (239, 0x7f_fff4),
            (9, 0xff_ffea),
            (237, 0xff_fff5),
            (199, 0x1ff_ffec),
            (235, 0x1ff_ffef),
            (192, 0x3ff_ffe0),
            (255, 0x3ff_ffee),
            (203, 0x7ff_ffde),
            (254, 0x7ff_fff0),
            (2, 0xfff_ffe2),
            (249, 0xfff_fffe),
            (10, 0x3fff_fffc),
            (256, 0x3fff_ffff),
        ];
        for (symbol, code) in cases {
            assert_eq!(CODES[usize::from(symbol)], code, "{symbol}");
        }
    }

    #[test]
    fn each_string_is_decoded_as_it_was_encoded() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encoded(&all)).unwrap(), all);
        for first in 0..=255 {
            for second in 0..=255 {
                let text = [first, second];
                assert_eq!(decoded(&encoded(&text)).unwrap(), text);
            }
            for len in 0..20 {
                let text = [first].repeat(len);
                assert_eq!(decoded(&encoded(&text)).unwrap(), text);
            }
        }
    }

    #[test]
    fn the_end_is_padded_with_less_than_a_byte_of_ones() {
        for len in 0..12 {
            // 5 bits each.
            let text = b"t".repeat(len);
            let mut bytes = encoded(&text);
            bytes.push(0xff);
            assert_eq!(decoded(&bytes), Err(Error::Huffman), "{len}");
            bytes.pop();
            let padding = (8 - len * 5 % 8) % 8;
            for bit in 0..padding {
                let mut wrong = bytes.clone();
                *wrong.last_mut().unwrap() ^= 1 << bit;
                let result = decoded(&wrong);
                // Of 5 bits and more, some are a symbol.
                assert_ne!(result.as_ref(), Ok(&text));
                assert!(padding >= 5 || result == Err(Error::Huffman), "{len} {bit}");
            }
        }
    }

    #[test]
    fn the_end_of_a_string_is_not_in_it() {
        // EOS by itself, and behind each number of bits.
        assert_eq!(decoded(&[0xff; 4]), Err(Error::Huffman));
        for len in 0..16 {
            let mut bytes = encoded(&b"t".repeat(len));
            bytes.extend([0xff; 4]);
            bytes.extend([0x4a; 8]);
            assert_eq!(decoded(&bytes), Err(Error::Huffman));
        }
    }

    proptest::proptest! {
        /// The code is complete, so all strings of bits are codes but for their end.
        #[test]
        fn what_is_decoded_is_encoded_as_it_was(bytes: Vec<u8>) {
            if let Ok(text) = decoded(&bytes) {
                assert_eq!(encoded(&text), bytes);
            }
        }

        #[test]
        fn what_is_encoded_is_decoded_as_it_was(text: Vec<u8>) {
            assert_eq!(decoded(&encoded(&text)).unwrap(), text);
        }
    }
}
