//! Writing header blocks.

use tidegate_http::{FieldLines, HttpDate, Status};

use super::dynamic_table::DynamicTable;
use super::static_table::{STATIC_TABLE, index_of_name};
use super::{FIELD_OVERHEAD, TABLE_BYTES_MAX, huffman, integer};

/// The bytes of the dynamic table that are used. The peer's may be larger: it is the newest entries
/// that count. This is a Date and a few fields, for each connection.
const TABLE_BYTES: usize = 512;

/// A field larger than this share of the table is not inserted.
const ENTRY_BYTES_MAX: usize = TABLE_BYTES / 2;

/// Fields whose value is seldom that of the response before.
const NOT_REPEATED: [&str; 7] = [
    "age",
    "content-length",
    "content-range",
    "etag",
    "last-modified",
    "location",
    "set-cookie",
];

/// The encoder of a connection. It holds no memory until the first field is inserted.
///
/// Each block that was begun must be sent, whole and in order: the next may refer to it.
#[derive(Debug)]
pub struct Encoder {
    table: DynamicTable,
    /// The size that the peer's decoder was last told.
    size: usize,
    /// The size that it allows.
    allowed: usize,
    /// The least that it allowed since it was told a size.
    allowed_min: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with an empty dynamic table.
    pub const fn new() -> Self {
        Self {
            table: DynamicTable::new(TABLE_BYTES),
            size: TABLE_BYTES_MAX,
            allowed: TABLE_BYTES_MAX,
            allowed_min: TABLE_BYTES_MAX,
        }
    }

    /// Obeys a `SETTINGS_HEADER_TABLE_SIZE` of the peer, in bytes, from the next block on; 0 turns
    /// the dynamic table off.
    pub fn set_table_size(&mut self, size: u32) {
        self.allowed = (size as usize).min(TABLE_BYTES_MAX);
        self.allowed_min = self.allowed_min.min(self.allowed);
        self.table.set_size_max(self.allowed.min(TABLE_BYTES));
    }

    /// Begins a block: appends changes of the table's size if there are any, and `:status`.
    #[inline]
    pub fn status(&mut self, status: Status, out: &mut Vec<u8>) {
        if self.allowed != self.size || self.allowed_min != self.size {
            self.write_sizes(out);
        }
        let code = status.code();
        let index = match code {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                write_literal(0x00, 4, ":status", itoa::Buffer::new().format(code), out);
                return;
            }
        };
        out.push(0x80 | index);
    }

    /// Appends `date`: one byte, but for the first block of a second.
    #[inline]
    pub fn date(&mut self, date: &HttpDate, out: &mut Vec<u8>) {
        self.field("date", date.as_bytes(), out);
    }

    /// Appends `content-length`. It is not compressed: that would save two bytes at most.
    #[inline]
    pub fn content_length(&mut self, length: u64, out: &mut Vec<u8>) {
        write_literal(
            0x00,
            4,
            "content-length",
            itoa::Buffer::new().format(length),
            out,
        );
    }

    /// Appends fields, and inserts those that other responses of the connection may have as well.
    pub fn fields(&mut self, fields: FieldLines<'_>, out: &mut Vec<u8>) {
        for (name, value) in fields.iter() {
            self.field(name, value, out);
        }
    }

    fn field(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        if let Some(age) = self.table.age_of(name.as_bytes(), value) {
            integer::write(STATIC_TABLE.len() + 1 + age, 0x80, 7, out);
            return;
        }
        if self.is_worth_inserting(name, value) {
            write_literal(0x40, 6, name, value, out);
            self.table.insert(name.as_bytes(), value);
        } else {
            write_literal(0x00, 4, name, value, out);
        }
    }

    fn is_worth_inserting(&self, name: &str, value: &[u8]) -> bool {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        size <= ENTRY_BYTES_MAX
            && size <= self.allowed
            && !NOT_REPEATED
                .iter()
                .any(|one| one.eq_ignore_ascii_case(name))
    }

    /// Appends the least size that was allowed since the last block, then the one that is allowed
    /// now (RFC 7541, section 4.2).
    #[cold]
    fn write_sizes(&mut self, out: &mut Vec<u8>) {
        if self.allowed_min < self.size {
            integer::write(self.allowed_min, 0x20, 5, out);
        }
        if self.allowed != self.allowed_min.min(self.size) {
            integer::write(self.allowed, 0x20, 5, out);
        }
        self.size = self.allowed;
        self.allowed_min = self.allowed;
    }
}

/// Appends a piece of a header block that depends on no dynamic table and changes none: it may be
/// kept, and sent on any connection, behind the rest of a block. Names become lower case. Fields
/// that HTTP/2 forbids (RFC 9113, section 8.2.2) are the caller's matter.
pub fn encode_static(fields: FieldLines<'_>, out: &mut Vec<u8>) {
    for (name, value) in fields.iter() {
        write_literal(0x00, 4, name, value, out);
    }
}

/// Appends a literal; `pattern` and `bits` say which kind (RFC 7541, section 6.2).
fn write_literal(pattern: u8, bits: u32, name: &str, value: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    if let Some(index) = index_of_name(name) {
        integer::write(index, pattern, bits, out);
    } else {
        out.push(pattern);
        write_string(name.bytes().map(|byte| byte.to_ascii_lowercase()), out);
    }
    write_string(value.as_ref().iter().copied(), out);
}

/// Appends a string, Huffman-coded where that is shorter (RFC 7541, section 5.2).
fn write_string(text: impl ExactSizeIterator<Item = u8> + Clone, out: &mut Vec<u8>) {
    let encoded = huffman::encoded_len(text.clone());
    if encoded < text.len() {
        integer::write(encoded, 0x80, 7, out);
        huffman::encode(text, out);
    } else {
        integer::write(text.len(), 0x00, 7, out);
        out.extend(text);
    }
}
