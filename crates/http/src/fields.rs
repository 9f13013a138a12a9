//! An index of the request fields that later decisions need.
//!
//! Parsing notes where the lines of these fields start, and no more. A value is read when it is
//! asked for, so that a request without any of them costs next to nothing.

use std::fmt;

use crate::field_block::{Lines, value_of};

/// Declares [`Field`] with the names that go with it.
macro_rules! fields {
    ($($variant:ident = $name:literal;)*) => {
        /// A request field that some decision depends on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Field {
            const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in lower case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

fields! {
    Accept = "accept";
    AcceptEncoding = "accept-encoding";
    AccessControlRequestHeaders = "access-control-request-headers";
    AccessControlRequestMethod = "access-control-request-method";
    Forwarded = "forwarded";
    IfMatch = "if-match";
    IfModifiedSince = "if-modified-since";
    IfNoneMatch = "if-none-match";
    IfRange = "if-range";
    IfUnmodifiedSince = "if-unmodified-since";
    Origin = "origin";
    Range = "range";
    SecFetchDest = "sec-fetch-dest";
    SecFetchMode = "sec-fetch-mode";
    XForwardedFor = "x-forwarded-for";
}

/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = 30;

const _: () = assert!(Field::ALL.len() <= u16::BITS as usize, "a bit for each");

/// The names of each length as a bit set of [`Field`]s, so that most names are ruled out at once.
static BY_LENGTH: [u16; NAME_BYTES_MAX + 1] = {
    let mut table = [0; NAME_BYTES_MAX + 1];
    let mut index = 0;
    while index < Field::ALL.len() {
        let field = Field::ALL[index];
        table[field.name().len()] |= field.bit();
        index += 1;
    }
    table
};

impl Field {
    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The field with this name, in any case.
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        let mut candidates = *BY_LENGTH.get(name.len())?;
        let last = name.last()?.to_ascii_lowercase();
        while candidates != 0 {
            let field = Self::ALL[candidates.trailing_zeros() as usize];
            // Names of one length seldom have the same last letter.
            if field.name().as_bytes().last() == Some(&last)
                && name.eq_ignore_ascii_case(field.name().as_bytes())
            {
                return Some(field);
            }
            candidates &= candidates - 1;
        }
        None
    }
}

/// The entry of a field without a line.
const NO_LINE: u32 = u32::MAX;

/// The fields of a request that later decisions need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fields<'b> {
    /// Field lines, each ended by CRLF.
    block: &'b [u8],
    index: Index,
}

/// The positions of the fields in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// Where the first line of each field starts, or [`NO_LINE`].
    lines: [u32; Field::ALL.len()],
    /// The fields with more than one line.
    repeated: u16,
}

impl<'b> Fields<'b> {
    /// An empty index of `block`, which is field lines (`name: value`, each ended by CRLF). Each
    /// line must be noted.
    pub fn new(block: &'b [u8]) -> Self {
        Self {
            block,
            index: Index {
                lines: [NO_LINE; Field::ALL.len()],
                repeated: 0,
            },
        }
    }

    /// The fields of `block` that has this index.
    pub(crate) fn from_parts(block: &'b [u8], index: Index) -> Self {
        Self { block, index }
    }

    /// The block and its index.
    pub(crate) fn into_parts(self) -> (&'b [u8], Index) {
        (self.block, self.index)
    }

    /// The index of `block`, with all of its lines noted. A line without a colon is no field.
    pub fn of_block(block: &'b [u8]) -> Self {
        let mut fields = Self::new(block);
        for line in Lines(block) {
            let colon = memchr::memchr(b':', line).unwrap_or(0);
            let start = line.as_ptr().addr() - block.as_ptr().addr();
            fields.note(&line[..colon], start);
        }
        fields
    }

    /// Notes a line with this name that starts at `start` in the block. Lines are noted in their
    /// order.
    #[inline]
    pub fn note(&mut self, name: impl AsRef<[u8]>, start: usize) {
        let Some(field) = Field::of(name.as_ref()) else {
            return;
        };
        let line = &mut self.index.lines[field as usize];
        if *line == NO_LINE {
            // A block of 4 GiB would lose a field at its end; no limit lets one pass.
            *line = u32::try_from(start).unwrap_or(NO_LINE);
        } else {
            self.index.repeated |= field.bit();
        }
    }

    /// The same index of `block`, which holds the lines that were noted: for a block that grew
    /// meanwhile.
    pub fn over<'c>(&self, block: &'c [u8]) -> Fields<'c> {
        Fields {
            block,
            index: self.index,
        }
    }

    /// Whether the field is present, even if empty.
    pub fn has(self, field: Field) -> bool {
        self.index.lines[field as usize] != NO_LINE
    }

    /// Sets `values` to the values of the first lines of the fields with these names, which
    /// need not be those of a [`Field`]. A value that is not there, or empty, is left as it is.
    pub fn first_values(self, names: &[String], values: &mut [&'b [u8]]) {
        let mut missing = names.len();
        for line in Lines(self.block) {
            if missing == 0 {
                return;
            }
            for (name, value) in names.iter().zip(&mut *values) {
                if value.is_empty()
                    && let Some(found) = value_of(line, name.as_bytes())
                {
                    *value = found;
                    missing -= usize::from(!found.is_empty());
                    break;
                }
            }
        }
    }

    /// The values of all lines of this field, in order, without whitespace at their ends.
    pub fn all(self, field: Field) -> impl Iterator<Item = &'b [u8]> {
        let first = self.index.lines[field as usize];
        let (lines, count) = match (first, self.index.repeated & field.bit()) {
            (NO_LINE, _) => (&[][..], 0),
            (_, 0) => (&self.block[first as usize..], 1),
            _ => (&self.block[first as usize..], usize::MAX),
        };
        Lines(lines)
            .filter_map(move |line| value_of(line, field.name().as_bytes()))
            .take(count)
    }

    /// As [`Fields::all`] for any field, by its name in lower case. Reads every line.
    pub fn named(self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        Lines(self.block).filter_map(move |line| value_of(line, name.as_bytes()))
    }

    /// The value of a field that no request may have twice; `None` if it is absent or repeated,
    /// where the intended value is ambiguous.
    pub fn only(self, field: Field) -> Option<&'b [u8]> {
        if self.index.repeated & field.bit() != 0 {
            return None;
        }
        self.all(field).next()
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = Field::ALL.iter().filter(|field| self.has(**field));
        f.debug_list().entries(present).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_get;

    /// The values of a field in a request with these lines.
    fn all(lines: &str, field: Field) -> Vec<Vec<u8>> {
        with_get(lines, |request| {
            let values: Vec<_> = request.fields.all(field).map(<[u8]>::to_vec).collect();
            assert_eq!(request.fields.has(field), !values.is_empty(), "{lines:?}");
            values
        })
    }

    #[test]
    fn fields_are_found_again() {
        #[rustfmt::skip] // one row a line
        let cases: &[(&str, Field, &[&[u8]], &str)] = &[
            ("", Field::Range, &[], "absent"),
            ("Range: a\r\n", Field::Range, &[b"a"], "present"),
            ("rANGE:a\r\n", Field::Range, &[b"a"], "any case: RFC 9110, 5.1"),
            ("Range: \t a b\t \r\n", Field::Range, &[b"a b"], "whitespace around it: RFC 9112, 5.1"),
            ("Range:\r\n", Field::Range, &[b""], "empty, but there"),
            ("Range: a\r\nA: b\r\nRange: c\r\n", Field::Range, &[b"a", b"c"], "two lines: RFC 9110, 5.2"),
            ("If-Range: a\r\n", Field::Range, &[], "a name that ends in the same way"),
            ("Range-X: a\r\n", Field::Range, &[], "a name that begins in the same way"),
            ("X: Range: a\r\n", Field::Range, &[], "a name within a value"),
            ("Rangf: a\r\n", Field::Range, &[], "another name of the same length"),
            ("Origin: a\r\nAccept: b\r\n", Field::Accept, &[b"b"], "two names of the same length"),
            ("Accept: \u{e4}\r\n", Field::Accept, &[b"\xc3\xa4"], "any byte but controls: RFC 9110, 5.5"),
        ];
        for (lines, field, expected, why) in cases {
            assert_eq!(all(lines, *field), *expected, "{why}");
        }
    }

    #[test]
    fn any_field_is_found_by_its_name() {
        let lines =
            "AUTHORIZATION: a\r\nX: Authorization: b\r\nauthorization:c\r\nAuthorizatio: d\r\n";
        let found = with_get(lines, |request| {
            let values = request.fields.named("authorization");
            values.map(<[u8]>::to_vec).collect::<Vec<_>>()
        });
        assert_eq!(found, [b"a", b"c"]);
    }

    #[test]
    fn every_field_is_noted() {
        for field in Field::ALL {
            let line = format!("{}: a\r\n", field.name().to_uppercase());
            for other in Field::ALL {
                let expected: &[&[u8]] = if field == other { &[b"a"] } else { &[] };
                assert_eq!(all(&line, *other), expected, "{line:?}");
            }
        }
    }

    #[test]
    fn a_field_that_no_request_may_have_twice() {
        let only = |lines| {
            with_get(lines, |request| {
                request.fields.only(Field::Range).map(<[u8]>::to_vec)
            })
        };
        assert_eq!(only(""), None);
        assert_eq!(only("Range: a\r\n"), Some(b"a".to_vec()));
        assert_eq!(only("Range: a\r\nRange: a\r\n"), None);
    }

    #[test]
    fn several_fields_are_found_at_once() {
        let empty = "X-B:\r\n".repeat(9);
        let lines = format!("X-A:b:c \r\n{empty}Range: a\r\nX-A: d\r\nX-AB: e\r\nY: f\r\n");
        let names = ["x-b", "x-a", "range", "z"].map(str::to_owned);
        let mut values = [&b""[..]; 4];
        Fields::of_block(lines.as_bytes()).first_values(&names, &mut values);
        let expected: [&[u8]; 4] = [b"", b"b:c", b"a", b""];
        assert_eq!(values, expected);
    }

    #[test]
    fn lines_are_noted_while_the_block_grows() {
        let mut block = Vec::new();
        let mut noted = Fields::new(&[]);
        for (name, value) in [("x", "a"), ("range", "b"), ("accept", "c"), ("range", "d")] {
            noted.note(name, block.len());
            block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        assert_eq!(noted.over(&block), Fields::of_block(&block));
    }

    #[test]
    fn fields_are_shown_by_name() {
        let shown = with_get("Range: a\r\nOrigin: b\r\n", |request| {
            format!("{:?}", request.fields)
        });
        assert_eq!(shown, "[Origin, Range]");
    }
}
