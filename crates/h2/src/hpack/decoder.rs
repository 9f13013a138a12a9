//! Reading header blocks.

use std::ops::Range;

use super::dynamic_table::DynamicTable;
use super::static_table::STATIC_TABLE;
use super::{Error, FIELD_OVERHEAD, TABLE_BYTES_MAX, huffman, integer};

/// Bytes of names that one block may copy from the dynamic table to new entries.
const NAMES_COPIED_MAX: usize = 64 << 10;

/// The decoder of a connection, with a dynamic table of at most 4096 bytes, the initial
/// `SETTINGS_HEADER_TABLE_SIZE`: no other may be announced. It holds no memory until a peer inserts
/// something.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// The largest size that the peer may choose.
    size_max: usize,
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
}

impl<F: FnMut(&[u8], &[u8])> FieldList<F> {
    #[inline]
    fn push(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.size = self.size.saturating_add(size);
        if self.size <= self.size_max {
            (self.give)(name, value);
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with an empty dynamic table.
    pub const fn new() -> Self {
        Self::with_table(TABLE_BYTES_MAX)
    }

    const fn with_table(size_max: usize) -> Self {
        Self {
            table: DynamicTable::new(size_max),
            size_max,
        }
    }

    /// Decodes a whole header block and gives each field, a name and a value, to `field`, in order.
    /// The bytes may be any: whether they are a valid name or value is not looked at.
    ///
    /// Returns the size of the list (RFC 9113, section 6.5.2): for each field its name, its value
    /// and 32 bytes. When it passes `limit` (inclusive), no more fields are given, but the rest is
    /// decoded and counted, so that the dynamic table is that of the peer. A reference to a table
    /// costs no more than its own byte then: the work is bounded by the length of the block and by
    /// `limit`.
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
        };
        let mut names_copied = 0;
        while let Some(&first) = input.first() {
            match first {
                0x80.. => {
                    let index = integer::read(&mut input, 7)?;
                    let (name, value) = self.entry(index)?;
                    list.push(name, value);
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut input, 6, &mut names_copied, scratch)?;
                    let (name, value) = (name.bytes(scratch), value.bytes(scratch));
                    list.push(name, value);
                    self.table.insert(name, value);
                }
                // Its place is the start of a block.
                0x20.. => return Err(Error::TableSize),
                // Not indexed, or never indexed, which is the same to who does not forward it.
                _ => {
                    let (name, value) = self.literal(&mut input, 4, &mut names_copied, scratch)?;
                    list.push(name.bytes(scratch), value.bytes(scratch));
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
            if size > self.size_max {
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
