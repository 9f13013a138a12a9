//! The field lines that describe a representation, built once when its file is looked up.

use crate::field_block::write_field;
use crate::{Coding, Validators};

/// What the responses for a file say of it.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// The media type, of the original also for a variant; empty for none.
    pub content_type: &'a str,
    /// The content coding of a variant.
    pub coding: Option<Coding>,
    /// What is sent as its entity tag and its date.
    pub validators: Validators,
    /// The request fields that decided, or could have decided, what is sent; empty for none.
    pub vary: &'a str,
    /// Whether a range of it can be asked for.
    pub accept_ranges: bool,
    /// Names and values of further fields.
    pub others: &'a [(&'a str, &'a str)],
}

/// Field lines, each ended by CRLF, for each kind of response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepresentationFields {
    /// Content-Type and Content-Encoding come first, then Vary.
    all: Vec<u8>,
    /// Bytes of the lines of type and coding.
    type_len: usize,
    /// Where the Vary line ends.
    vary_end: usize,
    not_modified: Vec<u8>,
}

impl Representation<'_> {
    /// Builds the lines.
    pub fn fields(&self) -> RepresentationFields {
        let mut all = Vec::with_capacity(256);
        if !self.content_type.is_empty() {
            write_field(&mut all, "Content-Type", self.content_type);
        }
        if let Some(coding) = self.coding {
            write_field(&mut all, "Content-Encoding", coding.token());
        }
        let type_len = all.len();
        self.write_vary(&mut all);
        let vary_end = all.len();
        self.write_rest(&mut all);
        let mut not_modified = Vec::with_capacity(128);
        self.write_not_modified(&mut not_modified);
        // They are kept for as long as the file is.
        all.shrink_to_fit();
        not_modified.shrink_to_fit();
        RepresentationFields {
            all,
            type_len,
            vary_end,
            not_modified,
        }
    }

    fn write_rest(&self, out: &mut Vec<u8>) {
        self.write_last_modified(out);
        self.write_etag(out);
        if self.accept_ranges {
            write_field(out, "Accept-Ranges", "bytes");
        }
        for (name, value) in self.others {
            write_field(out, name, value);
        }
    }

    /// What changes in a cache what it has. What only describes the content is left out: the cache
    /// knows it; Last-Modified is for caches that have no tag to go by (RFC 9110, section 15.4.5).
    fn write_not_modified(&self, out: &mut Vec<u8>) {
        if self.validators.etag.is_none() {
            self.write_last_modified(out);
        }
        self.write_etag(out);
        self.write_vary(out);
        for (name, value) in self.others {
            if !is_of_content(name) {
                write_field(out, name, value);
            }
        }
    }

    fn write_last_modified(&self, out: &mut Vec<u8>) {
        if let Some(date) = self.validators.last_modified() {
            out.extend_from_slice(b"Last-Modified: ");
            out.extend_from_slice(date.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    fn write_etag(&self, out: &mut Vec<u8>) {
        if let Some(etag) = self.validators.etag {
            out.extend_from_slice(b"ETag: ");
            out.extend_from_slice(etag.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    fn write_vary(&self, out: &mut Vec<u8>) {
        if !self.vary.is_empty() {
            write_field(out, "Vary", self.vary);
        }
    }
}

impl RepresentationFields {
    /// For a 200, and a 206 with one range.
    pub fn all(&self) -> &[u8] {
        &self.all
    }

    /// For a 206 with several ranges, whose type is that of the [`Multipart`](crate::Multipart) and
    /// which is not coded: its parts are.
    pub fn without_type(&self) -> &[u8] {
        &self.all[self.type_len..]
    }

    /// The Vary line, if there is one: for a 412 or 416, which tells of one representation of several.
    pub fn vary(&self) -> &[u8] {
        &self.all[self.type_len..self.vary_end]
    }

    /// For a 304.
    pub fn not_modified(&self) -> &[u8] {
        &self.not_modified
    }
}

/// Whether a field describes the content that a 304 does not have, and nothing else.
fn is_of_content(name: &str) -> bool {
    ["Content-Type", "Content-Language", "Content-Disposition"]
        .iter()
        .any(|one| name.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::example;

    const PLAIN: Representation<'_> = Representation {
        content_type: "text/html; charset=utf-8",
        coding: None,
        validators: Validators {
            etag: None,
            modified: None,
            is_date_strong: false,
        },
        vary: "",
        accept_ranges: false,
        others: &[],
    };

    fn text(lines: &[u8]) -> &str {
        str::from_utf8(lines).unwrap()
    }

    #[test]
    fn all_that_is_known_is_said() {
        let etag = example().etag.unwrap().with_coding(Coding::Brotli);
        let fields = Representation {
            coding: Some(Coding::Brotli),
            validators: Validators {
                etag: Some(etag),
                ..example()
            },
            vary: "Accept-Encoding",
            accept_ranges: true,
            others: &[("Cache-Control", "no-cache"), ("X-A", "b")],
            ..PLAIN
        }
        .fields();
        let rest = "Vary: Accept-Encoding\r\n\
                    Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    ETag: \"ae1b981bc490a00-b-br\"\r\nAccept-Ranges: bytes\r\n\
                    Cache-Control: no-cache\r\nX-A: b\r\n";
        let coded = "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: br\r\n";
        let all = format!("{coded}{rest}");
        assert_eq!(text(fields.all()), all);
        assert_eq!(text(fields.without_type()), rest);
        assert_eq!(text(fields.vary()), "Vary: Accept-Encoding\r\n");
        assert_eq!(
            text(fields.not_modified()),
            "ETag: \"ae1b981bc490a00-b-br\"\r\nVary: Accept-Encoding\r\n\
             Cache-Control: no-cache\r\nX-A: b\r\n"
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let fields = PLAIN.fields();
        let content_type = "Content-Type: text/html; charset=utf-8\r\n";
        assert_eq!(text(fields.all()), content_type);
        assert_eq!(text(fields.without_type()), "");
        assert_eq!(text(fields.not_modified()), "");
        assert_eq!(text(fields.vary()), "");
        let no_type = Representation {
            content_type: "",
            ..PLAIN
        };
        assert_eq!(no_type.fields(), RepresentationFields::default());
    }

    /// RFC 9110, 15.4.5: what a 200 would have said of these, and of the content nothing.
    #[test]
    fn a_304_says_what_a_cache_must_know() {
        let others = &[
            ("Cache-Control", "max-age=60"),
            ("Expires", "0"),
            ("Content-Location", "/a"),
            ("Content-Security-Policy", "default-src 'self'"),
            ("content-language", "en"),
            ("Content-Disposition", "attachment"),
            ("CONTENT-TYPE", "a/b"),
        ];
        let fields = Representation {
            validators: Validators {
                etag: None,
                ..example()
            },
            accept_ranges: true,
            others,
            ..PLAIN
        }
        .fields();
        assert_eq!(
            text(fields.not_modified()),
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: max-age=60\r\n\
             Expires: 0\r\nContent-Location: /a\r\nContent-Security-Policy: default-src 'self'\r\n",
            "Last-Modified where there is no tag"
        );
    }
}
