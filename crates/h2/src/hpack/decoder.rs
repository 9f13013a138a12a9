//! Reading header blocks.

use std::ops::Range;

use super::dynamic_table::DynamicTable;
use super::static_table::STATIC_TABLE;
use super::{Error, FIELD_OVERHEAD, TABLE_BYTES_MAX, huffman, integer};

/// Bytes of names that one block may copy from the dynamic table to new entries.
const NAMES_COPIED_MAX: usize = 64 << 10;

/// How many times as long as the block a list may be that is larger than this and than the limit:
/// more is a bomb.
const EXPANSION_MAX: usize = 64;
const LIST_BYTES_FREE: usize = 64 << 10;

/// The decoder of a connection, with a dynamic table of at most 4096 bytes, the initial
/// `SETTINGS_HEADER_TABLE_SIZE`: no other may be announced. It holds no memory until a peer inserts
/// something.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
}

/// A string of a literal.
enum Text<'b> {
    /// As it is in the block, or in the static table.
    Plain(&'b [u8]),
    /// Where it is in the scratch.
    Scratch(Range<usize>),
}

impl<'b> Text<'b> {
    fn bytes<'s>(&self, scratch: &'s [u8]) -> &'s [u8]
    where
        'b: 's,
    {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Scratch(range) => &scratch[range.clone()],
        }
    }
}

/// The fields of a block, as far as the limit allows.
struct FieldList<F> {
    give: F,
    size: usize,
    size_max: usize,
    /// A larger one is a bomb.
    bomb: usize,
}

impl<F: FnMut(&[u8], &[u8])> FieldList<F> {
    #[inline]
    fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.size = self.size.saturating_add(size);
        if self.size <= self.size_max {
            (self.give)(name, value);
        } else if self.size > self.bomb {
            return Err(Error::Expansion);
        }
        Ok(())
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Bytes of memory that its table takes.
    pub(crate) fn memory(&self) -> usize {
        self.table.memory()
    }

    /// A decoder with an empty dynamic table.
    pub const fn new() -> Self {
        Self::with_table(TABLE_BYTES_MAX)
    }

    const fn with_table(size_max: usize) -> Self {
        Self {
            table: DynamicTable::new(size_max),
        }
    }

    /// Decodes a whole header block and gives each field, a name and a value, to `field`, in order.
    /// The bytes may be any: whether they are a valid name or value is not looked at.
    ///
    /// Returns the size of the list (RFC 9113, section 6.5.2): for each field its name, its value
    /// and 32 bytes. When it passes `limit` (inclusive), no more fields are given, but the rest is
    /// decoded and counted, so that the dynamic table is that of the peer. A reference to a table
    /// costs no more than its own byte then: the work is bounded by the length of the block and by
    /// `limit`. A list that is far longer than its block is an error.
    ///
    /// `scratch` is memory for strings; its content has no meaning before and after.
    ///
    /// # Errors
    ///
    /// Each is a connection error, `COMPRESSION_ERROR`: the decoder is of no use any more.
    pub fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        scratch: &mut Vec<u8>,
        field: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize, Error> {
        let mut input = self.change_sizes(block)?;
        let mut list = FieldList {
            give: field,
            size: 0,
            size_max: limit,
            bomb: limit
                .max(LIST_BYTES_FREE)
                .saturating_add(EXPANSION_MAX * block.len()),
        };
        let mut names_copied = 0;
        while let Some(&first) = input.first() {
            match first {
                0x80.. => {
                    let index = integer::read(&mut input, 7)?;
                    let (name, value) = self.entry(index)?;
                    list.push(name, value)?;
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut input, 6, &mut names_copied, scratch)?;
                    let (name, value) = (name.bytes(scratch), value.bytes(scratch));
                    list.push(name, value)?;
                    self.table.insert(name, value);
                }
                // Its place is the start of a block.
                0x20.. => return Err(Error::TableSize),
                // Not indexed, or never indexed, which is the same to who does not forward it.
                _ => {
                    let (name, value) = self.literal(&mut input, 4, &mut names_copied, scratch)?;
                    list.push(name.bytes(scratch), value.bytes(scratch))?;
                }
            }
        }
        Ok(list.size)
    }

    /// Applies the changes of the table's size at the start of a block (RFC 7541, section 6.3), and
    /// returns what is behind them.
    fn change_sizes<'b>(&mut self, block: &'b [u8]) -> Result<&'b [u8], Error> {
        let mut input = block;
        while let Some(0x20..=0x3f) = input.first() {
            let size = integer::read(&mut input, 5)?;
            if size > TABLE_BYTES_MAX {
                return Err(Error::TableSize);
            }
            self.table.set_size_max(size);
        }
        Ok(input)
    }

    /// The field with this index (RFC 7541, section 2.3.3).
    #[inline]
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Error> {
        let position = index.checked_sub(1).ok_or(Error::Index)?;
        if let Some((name, value)) = STATIC_TABLE.get(position) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let age = position - STATIC_TABLE.len();
        self.table.get(age).ok_or(Error::Index)
    }

    /// Takes a literal from the front of `input` whose index of the name has `bits`.
    fn literal<'b>(
        &self,
        input: &mut &'b [u8],
        bits: u32,
        names_copied: &mut usize,
        scratch: &mut Vec<u8>,
    ) -> Result<(Text<'b>, Text<'b>), Error> {
        scratch.clear();
        let index = integer::read(input, bits)?;
        let name = if index == 0 {
            read_string(input, scratch)?
        } else if let Some((name, _)) = STATIC_TABLE.get(index - 1) {
            Text::Plain(name.as_bytes())
        } else {
            // The entry may be evicted for the new one.
            let (name, _) = self.entry(index)?;
            *names_copied += name.len();
            scratch.extend_from_slice(name);
            Text::Scratch(0..name.len())
        };
        if *names_copied > NAMES_COPIED_MAX {
            return Err(Error::Expansion);
        }
        Ok((name, read_string(input, scratch)?))
    }
}

/// Takes a string from the front of `input` (RFC 7541, section 5.2).
fn read_string<'b>(input: &mut &'b [u8], scratch: &mut Vec<u8>) -> Result<Text<'b>, Error> {
    let is_huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer::read(input, 7)?;
    let (bytes, rest) = input.split_at_checked(len).ok_or(Error::Truncated)?;
    *input = rest;
    if !is_huffman {
        return Ok(Text::Plain(bytes));
    }
    let start = scratch.len();
    huffman::decode(bytes, scratch)?;
    Ok(Text::Scratch(start..scratch.len()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::decoded;
    use super::*;

    const LIMIT: usize = 16 << 10;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// Decodes blocks of one connection: each with its fields, and the size of the table then.
    fn check(table_bytes: usize, blocks: &[(&str, &str, usize)]) {
        let mut decoder = Decoder::with_table(table_bytes);
        for (block, lines, table_size) in blocks {
            let (fields, size) = decoded(&mut decoder, &hex(block)).unwrap();
            assert_eq!(fields, *lines);
            // Each line has ": " and a line feed beyond its name and value.
            assert_eq!(size, lines.len() + (32 - 3) * lines.lines().count());
            assert_eq!(decoder.table.size(), *table_size, "{lines}");
        }
    }

    #[test]
    fn fields_are_those_of_appendix_c_2() {
        let cases = [
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key: custom-header\n",
                55,
            ),
            (
                "040c 2f73 616d 706c 652f 7061 7468",
                ":path: /sample/path\n",
                0,
            ),
            (
                "1008 7061 7373 776f 7264 0673 6563 7265 74",
                "password: secret\n",
                0,
            ),
            ("82", ":method: GET\n", 0),
        ];
        for case in cases {
            check(TABLE_BYTES_MAX, &[case]);
        }
    }

    #[test]
    fn requests_are_those_of_appendix_c_3_and_c_4() {
        let start = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
        let second = format!("{start}cache-control: no-cache\n");
        let third = ":method: GET\n:scheme: https\n:path: /index.html\n\
                     :authority: www.example.com\ncustom-key: custom-value\n";
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for [first, next, last] in [plain, huffman] {
            check(
                TABLE_BYTES_MAX,
                &[(first, start, 57), (next, &second, 110), (last, third, 164)],
            );
        }
    }

    #[test]
    fn responses_are_those_of_appendix_c_5_and_c_6() {
        let rest = "cache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
                    location: https://www.example.com\n";
        let third = ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
                     location: https://www.example.com\ncontent-encoding: gzip\nset-cookie: \
                     foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n";
        let plain = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 \
             303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 \
             6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 \
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 \
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ];
        let huffman = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b \
             ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad \
             94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 \
             65c0 03ed 4ee5 b106 3d50 07",
        ];
        for [first, second, last] in [plain, huffman] {
            check(
                256,
                &[
                    (first, &format!(":status: 302\n{rest}"), 222),
                    (second, &format!(":status: 307\n{rest}"), 222),
                    (last, third, 215),
                ],
            );
        }
    }

    #[test]
    fn a_malformed_block_is_an_error() {
        let cases = [
            // Within a field: an integer, a string, no value, no name.
            ("ff", Error::Truncated),
            ("7f80", Error::Truncated),
            ("40", Error::Truncated),
            ("400161", Error::Truncated),
            ("40016105626364", Error::Truncated),
            ("4103", Error::Truncated),
            ("0f", Error::Truncated),
            ("3f", Error::Truncated),
            ("007fffffffff0e", Error::Truncated),
            ("ffffffffffff0f", Error::Integer),
            ("007fffffffff0f", Error::Integer),
            ("3fffffffffff0f", Error::Integer),
            // No entry: index 0, the first of an empty table, the one behind it.
            ("80", Error::Index),
            ("be", Error::Index),
            ("4001610162bf", Error::Index),
            ("7e0161", Error::Index),
            ("ffffffffff0e", Error::Index),
            // The code of EOS, padding of zeros, padding of 8 bits, nothing but padding of 8.
            ("4184ffffffff", Error::Huffman),
            ("41841fffffff", Error::Huffman),
            ("418118", Error::Huffman),
            ("41821fff", Error::Huffman),
            ("4181ff", Error::Huffman),
            // Above 4096 bytes, behind a field.
            ("3fe21f", Error::TableSize),
            ("8220", Error::TableSize),
        ];
        for (block, error) in cases {
            let block = hex(block);
            assert_eq!(
                decoded(&mut Decoder::new(), &block),
                Err(error),
                "{block:x?}"
            );
        }
    }

    #[test]
    fn the_size_of_the_table_changes_at_the_start_of_a_block() {
        let mut decoder = Decoder::new();
        let insert = hex("4001610162 4001630164");
        decoded(&mut decoder, &insert).unwrap();
        assert_eq!(decoder.table.size(), 2 * 34);
        let both = ("c: d\na: b\n".to_owned(), 2 * 34);
        assert_eq!(decoded(&mut decoder, &hex("3fe11f bebf")), Ok(both));
        let one = ("c: d\n".to_owned(), 34);
        assert_eq!(decoded(&mut decoder, &hex("3f04 3f24 be")), Ok(one));
        assert_eq!(decoded(&mut decoder, &hex("bf")), Err(Error::Index));
        assert_eq!(
            decoded(&mut decoder, &hex("20 3fe11f be")),
            Err(Error::Index)
        );
        decoded(&mut decoder, &insert).unwrap();
        assert_eq!(decoder.table.size(), 2 * 34);
    }

    #[test]
    fn the_name_of_an_evicted_entry_is_kept_for_the_new_one() {
        let mut decoder = Decoder::with_table(40);
        decoded(&mut decoder, &hex("40 03616263 0131")).unwrap();
        let renewed = ("abc: 2\n".to_owned(), 36);
        assert_eq!(decoded(&mut decoder, &hex("7e 0132")), Ok(renewed.clone()));
        assert_eq!(decoded(&mut decoder, &hex("be")), Ok(renewed));
        // A field that is larger than the table empties it.
        decoded(&mut decoder, &hex("7e 06313233343536")).unwrap();
        assert_eq!(decoder.table.size(), 0);
    }

    /// A block that inserts a name of `len` bytes without a value.
    fn long_name(len: usize) -> Vec<u8> {
        let mut block = vec![0x40];
        integer::write(len, 0, 7, &mut block);
        block.resize(block.len() + len, b'n');
        block.push(0);
        block
    }

    #[test]
    fn references_beyond_the_limit_are_counted_only() {
        const NAME: usize = TABLE_BYTES_MAX - FIELD_OVERHEAD;
        const REFERENCES: usize = 60;
        let mut decoder = Decoder::new();
        let mut block = long_name(NAME);
        block.resize(block.len() + REFERENCES, 0xbe);
        // The table is right behind the limit, too.
        block.extend(hex("4001610162"));
        let mut given = 0;
        let mut scratch = Vec::new();
        let size = decoder.decode(&block, LIMIT, &mut scratch, |name, _| given += name.len());
        assert_eq!(size, Ok((1 + REFERENCES) * TABLE_BYTES_MAX + 34));
        assert_eq!(given, NAME * (LIMIT / TABLE_BYTES_MAX));
        assert!(scratch.capacity() < 1024, "{}", scratch.capacity());
        let newest = ("a: b\n".to_owned(), 34);
        assert_eq!(decoded(&mut decoder, &[0xbe]), Ok(newest));
    }

    #[test]
    fn a_bomb_is_not_decoded_to_its_end() {
        let mut decoder = Decoder::new();
        decoded(&mut decoder, &long_name(4000)).unwrap();
        // An index of no entry at its end.
        let bomb = [&[0xbe; 1000][..], &hex("ff00")].concat();
        assert_eq!(decoded(&mut decoder, &bomb), Err(Error::Expansion));
    }

    #[test]
    fn names_are_copied_within_a_limit() {
        let mut decoder = Decoder::new();
        decoded(&mut decoder, &long_name(4000)).unwrap();
        let repeated = |count| [0x7e, 0].repeat(count);
        let allowed = NAMES_COPIED_MAX / 4000;
        assert!(decoded(&mut decoder, &repeated(allowed)).is_ok());
        let error = decoded(&mut decoder, &repeated(allowed + 1));
        assert_eq!(error, Err(Error::Expansion));
    }

    #[test]
    fn the_limit_is_inclusive() {
        for (limit, expected) in [(67, 1), (68, 2)] {
            let mut given = 0;
            let block = hex("0001610162 0001630164");
            let size = Decoder::new().decode(&block, limit, &mut Vec::new(), |_, _| given += 1);
            assert_eq!((size, given), (Ok(68), expected));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_block_panics(blocks in proptest::collection::vec(
            proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), 1..5)
        ) {
            let mut decoder = Decoder::new();
            for block in blocks {
                let _ = decoded(&mut decoder, &block);
                assert!(decoder.table.size() <= TABLE_BYTES_MAX);
            }
        }
    }
}
