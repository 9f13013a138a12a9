//! The fields that describe a representation, built once when its file is looked up.

use crate::{Coding, FieldBlock, FieldLines, Validators};

/// The description of a file in its responses.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// The media type, of the original also for a variant; empty for none.
    pub content_type: &'a str,
    /// The content coding of a variant.
    pub coding: Option<Coding>,
    /// Its entity tag and its date.
    pub validators: Validators,
    /// The request fields that select, or could have selected, the representation; empty for none.
    pub vary: &'a str,
    /// Whether it can be sent in ranges.
    pub accept_ranges: bool,
    /// Names and values of further fields.
    pub others: &'a [(&'a str, &'a str)],
}

/// The fields of each kind of response: parts of one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepresentationFields {
    /// Content-Type and Content-Encoding come first, then others that only describe the content,
    /// then Vary, then those of a 304 besides it.
    all: FieldBlock,
    /// Bytes of the lines of type and coding.
    type_len: usize,
    /// Where the Vary line starts, and with it the fields of a 304.
    vary_start: usize,
    /// Where it ends.
    vary_end: usize,
}

impl Representation<'_> {
    /// Builds the fields.
    pub fn fields(&self) -> RepresentationFields {
        let mut all = FieldBlock::with_capacity(256);
        if !self.content_type.is_empty() {
            all.push("Content-Type", self.content_type);
        }
        if let Some(coding) = self.coding {
            all.push("Content-Encoding", coding.token());
        }
        let type_len = all.len();
        self.push_of_content(&mut all);
        let vary_start = all.len();
        if !self.vary.is_empty() {
            all.push("Vary", self.vary);
        }
        let vary_end = all.len();
        self.push_rest(&mut all);
        // They live as long as the cached file.
        all.shrink_to_fit();
        RepresentationFields {
            all,
            type_len,
            vary_start,
            vary_end,
        }
    }

    /// The fields that only describe the content, which a cache has already when it gets a 304.
    /// Last-Modified is for caches without a tag (RFC 9110, section 15.4.5).
    fn push_of_content(&self, out: &mut FieldBlock) {
        if self.validators.etag.is_some() {
            self.push_last_modified(out);
        }
        if self.accept_ranges {
            out.push("Accept-Ranges", "bytes");
        }
        self.push_others(out, is_of_content);
    }

    /// The fields that update a cached response, but for Vary.
    fn push_rest(&self, out: &mut FieldBlock) {
        match self.validators.etag {
            Some(etag) => out.push("ETag", etag.as_bytes()),
            None => self.push_last_modified(out),
        }
        self.push_others(out, |name| !is_of_content(name));
    }

    fn push_others(&self, out: &mut FieldBlock, is_wanted: impl Fn(&str) -> bool) {
        for (name, value) in self.others.iter().filter(|(name, _)| is_wanted(name)) {
            out.push(name, value);
        }
    }

    fn push_last_modified(&self, out: &mut FieldBlock) {
        if let Some(date) = self.validators.last_modified() {
            out.push("Last-Modified", date.as_bytes());
        }
    }
}

impl RepresentationFields {
    /// For a 200, and a 206 with one range.
    pub fn all(&self) -> FieldLines<'_> {
        self.all.lines()
    }

    /// For a 206 with several ranges: its type is that of the [`Multipart`](crate::Multipart), and
    /// only its parts have a content coding.
    pub fn without_type(&self) -> FieldLines<'_> {
        self.all.lines_between(self.type_len, self.all.len())
    }

    /// Vary, if present: for a 412 or 416, which concerns one representation of several.
    pub fn vary(&self) -> FieldLines<'_> {
        self.all.lines_between(self.vary_start, self.vary_end)
    }

    /// For a 304: the end of [`all`](Self::all).
    pub fn not_modified(&self) -> FieldLines<'_> {
        self.all.lines_between(self.vary_start, self.all.len())
    }

    /// [`all`](Self::all) without those of a 304.
    pub fn of_content(&self) -> FieldLines<'_> {
        self.all.lines_between(0, self.vary_start)
    }
}

/// Whether a field only describes the content, which a 304 does not have.
fn is_of_content(name: &str) -> bool {
    let names = [
        "Content-Type",
        "Content-Encoding",
        "Content-Language",
        "Content-Disposition",
    ];
    names.iter().any(|one| name.eq_ignore_ascii_case(one))
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

    fn text(fields: FieldLines<'_>) -> &str {
        str::from_utf8(fields.as_bytes()).unwrap()
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
            others: &[
                ("Cache-Control", "no-cache"),
                ("Content-Language", "en"),
                ("X-A", "b"),
            ],
            ..PLAIN
        }
        .fields();
        let of_content = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                          Accept-Ranges: bytes\r\nContent-Language: en\r\n";
        let not_modified = "Vary: Accept-Encoding\r\nETag: \"ae1b981bc490a00-b-br\"\r\n\
                            Cache-Control: no-cache\r\nX-A: b\r\n";
        let rest = format!("{of_content}{not_modified}");
        let coded = "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: br\r\n";
        let all = format!("{coded}{rest}");
        assert_eq!(text(fields.all()), all);
        assert_eq!(text(fields.without_type()), rest);
        assert_eq!(text(fields.vary()), "Vary: Accept-Encoding\r\n");
        assert_eq!(text(fields.not_modified()), not_modified);
        assert_eq!(text(fields.of_content()), format!("{coded}{of_content}"));
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
