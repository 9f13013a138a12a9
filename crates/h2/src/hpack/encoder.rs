//! Writing header blocks.

use tidegate_http::{FieldLines, HttpDate, Status};

use super::dynamic_table::DynamicTable;
use super::static_table::{self, STATIC_TABLE, index_of_name};
use super::{FIELD_OVERHEAD, TABLE_BYTES_MAX, huffman, integer};

/// The bytes of the dynamic table that are used. The peer's may be larger: it is the newest entries
/// that count. This is a Date and a few fields, for each connection.
const TABLE_BYTES: usize = 512;

/// A field larger than this share of the table is not inserted.
const ENTRY_BYTES_MAX: usize = TABLE_BYTES / 2;

/// The indices of names whose value is seldom that of the response before.
const NOT_REPEATED: [usize; 7] = [
    static_table::AGE,
    static_table::CONTENT_LENGTH,
    static_table::CONTENT_RANGE,
    static_table::ETAG,
    static_table::LAST_MODIFIED,
    static_table::LOCATION,
    static_table::SET_COOKIE,
];

/// The encoder of a connection. It holds no memory until the first field is inserted.
///
/// Each block that was begun must be sent, whole and in order: the next may refer to it.
#[derive(Debug)]
pub struct Encoder {
    /// Names in the case in which they were given.
    table: DynamicTable,
    /// The size that the peer's decoder was last told.
    size: u16,
    /// The size that it allows.
    allowed: u16,
    /// The least that it allowed since it was told a size.
    allowed_min: u16,
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
            size: TABLE_BYTES_MAX as u16,
            allowed: TABLE_BYTES_MAX as u16,
            allowed_min: TABLE_BYTES_MAX as u16,
        }
    }

    /// Obeys a `SETTINGS_HEADER_TABLE_SIZE` of the peer, in bytes, from the next block on; 0 turns
    /// the dynamic table off.
    pub fn set_table_size(&mut self, size: u32) {
        let size = (size as usize).min(TABLE_BYTES_MAX);
        self.table.set_size_max(size.min(TABLE_BYTES));
        self.allowed = size as u16;
        self.allowed_min = self.allowed_min.min(self.allowed);
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
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(code).as_bytes();
                write_literal(NOT_INDEXED, static_table::STATUS, "", digits, out);
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

    /// Appends `content-length`. It is not compressed: that would save a byte of usual lengths.
    #[inline]
    pub fn content_length(&mut self, length: u64, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(length).as_bytes();
        // A literal that is not indexed.
        let index = static_table::CONTENT_LENGTH as u8;
        out.extend_from_slice(&[0x0f, index - 0x0f, digits.len() as u8]);
        out.extend_from_slice(digits);
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
        let index = index_of_name(name).unwrap_or(0);
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        let fits = size <= ENTRY_BYTES_MAX && size <= usize::from(self.allowed);
        if fits && !NOT_REPEATED.contains(&index) {
            write_literal(INDEXED, index, name, value, out);
            self.table.insert(name.as_bytes(), value);
        } else {
            write_literal(NOT_INDEXED, index, name, value, out);
        }
    }

    /// Appends the least size that was allowed since the last block, then the one that is allowed
    /// now (RFC 7541, section 4.2).
    #[cold]
    fn write_sizes(&mut self, out: &mut Vec<u8>) {
        if self.allowed_min < self.size {
            integer::write(self.allowed_min.into(), 0x20, 5, out);
        }
        if self.allowed != self.allowed_min.min(self.size) {
            integer::write(self.allowed.into(), 0x20, 5, out);
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
        let index = index_of_name(name).unwrap_or(0);
        write_literal(NOT_INDEXED, index, name, value, out);
    }
}

/// Kinds of literals: the bits at the start, and how many are left for the index (RFC 7541,
/// sections 6.2.1 and 6.2.2).
const INDEXED: (u8, u32) = (0x40, 6);
const NOT_INDEXED: (u8, u32) = (0x00, 4);

/// Appends a literal with the name of `index`, or `name` if that is 0.
fn write_literal(kind: (u8, u32), index: usize, name: &str, value: &[u8], out: &mut Vec<u8>) {
    let (pattern, bits) = kind;
    integer::write(index, pattern, bits, out);
    if index == 0 {
        write_string(name.bytes().map(|byte| byte.to_ascii_lowercase()), out);
    }
    write_string(value.iter().copied(), out);
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tidegate_http::FieldBlock;

    use super::super::Decoder;
    use super::*;

    fn block(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    /// The fields of a block, each as `name: value` and a line feed.
    fn decoded(decoder: &mut Decoder, block: &[u8]) -> String {
        super::super::testing::decoded(decoder, block).unwrap().0
    }

    #[test]
    fn usual_statuses_are_one_byte() {
        let cases = [
            (200, 1),
            (204, 1),
            (206, 1),
            (304, 1),
            (400, 1),
            (404, 1),
            (500, 1),
            (301, 4),
            (421, 4),
        ];
        for (code, len) in cases {
            let status = Status::of_code(code).unwrap();
            let block = block(|out| Encoder::new().status(status, out));
            assert_eq!(
                decoded(&mut Decoder::new(), &block),
                format!(":status: {code}\n")
            );
            assert_eq!(block.len(), len, "{code}");
        }
    }

    #[test]
    fn what_repeats_is_one_byte() {
        let fields = FieldLines::from_static("Vary: Origin\r\nStrict-Transport-Security: a\r\n");
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new();
        for (seconds, lens) in [(0, [24, 10]), (0, [1, 2]), (1, [24, 2]), (1, [1, 2])] {
            let date = HttpDate::of_seconds(seconds);
            let first = block(|out| encoder.date(&date, out));
            let rest = block(|out| encoder.fields(fields, out));
            assert_eq!([first.len(), rest.len()], lens);
            let text = decoded(&mut decoder, &[first, rest].concat());
            let date = date.as_bytes().escape_ascii();
            let expected = format!("date: {date}\nvary: Origin\nstrict-transport-security: a\n");
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn what_does_not_repeat_and_what_is_long_is_not_inserted() {
        let mut fields = FieldBlock::new();
        for name in ["Age", "Content-Range", "ETag", "Last-Modified", "Location"] {
            fields.push(name, "1");
        }
        fields.push("X-Long", "~".repeat(ENTRY_BYTES_MAX));
        let mut encoder = Encoder::new();
        let first = block(|out| encoder.fields(fields.lines(), out));
        assert_eq!(first, block(|out| encoder.fields(fields.lines(), out)));
        assert_eq!(encoder.table.size(), 0);
    }

    #[test]
    fn a_length_has_all_digits() {
        for length in [0, 9, 1024, u64::MAX] {
            let block = block(|out| Encoder::new().content_length(length, out));
            let text = decoded(&mut Decoder::new(), &block);
            assert_eq!(text, format!("content-length: {length}\n"));
        }
    }

    #[test]
    fn a_kept_block_fits_behind_any_other() {
        let lines = "X-Tidegate: A\r\nContent-Type: text/html; charset=utf-8\r\nX-Empty: \r\n";
        let kept = block(|out| encode_static(FieldLines::from_static(lines), out));
        let mut decoder = Decoder::new();
        for _ in 0..2 {
            let text = decoded(&mut decoder, &kept);
            let expected = "x-tidegate: A\ncontent-type: text/html; charset=utf-8\nx-empty: \n";
            assert_eq!(text, expected);
        }
        // It inserts nothing: there is no entry 62.
        let reference = decoder.decode(&[0xbe], 0, &mut Vec::new(), |_, _| {});
        assert!(reference.is_err());
    }

    #[test]
    fn the_peer_chooses_the_size_of_the_table() {
        // The sizes that it allows between two blocks, and the start of the second block.
        let cases: [(&[u32], &[u8]); 9] = [
            (&[], &[]),
            (&[4096], &[]),
            (&[65_536], &[]),
            (&[u32::MAX], &[]),
            (&[0], &[0x20]),
            (&[100], &[0x3f, 69]),
            (&[0, 4096], &[0x20, 0x3f, 0xe1, 0x1f]),
            (&[4096, 30, 10, 20], &[0x2a, 0x34]),
            (&[1024, 65_536], &[0x3f, 0xe1, 0x07, 0x3f, 0xe1, 0x1f]),
        ];
        for (sizes, start) in cases {
            let mut encoder = Encoder::new();
            block(|out| encoder.status(Status::OK, out));
            for size in sizes {
                encoder.set_table_size(*size);
            }
            let second = block(|out| encoder.status(Status::OK, out));
            assert_eq!(second, [start, &[0x88]].concat(), "{sizes:?}");
            let third = block(|out| encoder.status(Status::OK, out));
            assert_eq!(third, [0x88], "{sizes:?}");
        }
    }

    #[test]
    fn a_table_that_was_turned_off_is_empty_and_may_come_back() {
        let date = HttpDate::of_seconds(0);
        let mut encoder = Encoder::new();
        let mut head = |sizes: &[u32]| {
            for size in sizes {
                encoder.set_table_size(*size);
            }
            block(|out| {
                encoder.status(Status::OK, out);
                encoder.date(&date, out);
            })
        };
        // The status, the date, and changes of the size.
        for (sizes, len) in [
            (&[][..], 1 + 24),
            (&[], 1 + 1),
            (&[0], 1 + 1 + 25),
            (&[], 1 + 25),
            (&[4096], 3 + 1 + 24),
            (&[], 1 + 1),
            (&[0, 4096], 1 + 3 + 1 + 24),
        ] {
            assert_eq!(head(sizes).len(), len, "{sizes:?}");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        TableSize(u32),
        Block(u16, u64, Vec<(String, Vec<u8>)>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = prop_oneof!["[A-Za-z-]{1,20}", "Vary|Server|Link|ETag|Location|X-[ab]"];
        let value = vec(prop_oneof![4 => 33..127_u8, 1 => 128..=255_u8], 0..60);
        let block = (200..206_u16, 0..4_u64, vec((name, value), 0..5));
        prop_oneof![
            1 => prop_oneof![Just(0), 0..700_u32, Just(4096)].prop_map(Step::TableSize),
            4 => block.prop_map(|(code, second, fields)| Step::Block(code, second, fields)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_as_it_was(steps in vec(step(), 0..10)) {
            let mut encoder = Encoder::new();
            let mut decoder = Decoder::new();
            for step in steps {
                let (code, seconds, fields) = match step {
                    Step::TableSize(size) => {
                        encoder.set_table_size(size);
                        continue;
                    }
                    Step::Block(code, second, fields) => (code, second, fields),
                };
                let Some(status) = Status::of_code(code) else { continue };
                let date = HttpDate::of_seconds(seconds);
                let head = format!(":status: {code}\ndate: {}\n", date.as_bytes().escape_ascii());
                let mut expected = vec![head];
                let mut lines = FieldBlock::new();
                for (name, value) in &fields {
                    lines.push(name, value);
                    let name = name.to_ascii_lowercase();
                    expected.push(format!("{name}: {}\n", value.escape_ascii()));
                }
                // Twice: what was inserted is referred to.
                for _ in 0..2 {
                    let block = block(|out| {
                        encoder.status(status, out);
                        encoder.date(&date, out);
                        encoder.fields(lines.lines(), out);
                    });
                    prop_assert_eq!(decoded(&mut decoder, &block), expected.concat());
                }
                prop_assert!(encoder.table.size() <= TABLE_BYTES);
            }
        }
    }
}
