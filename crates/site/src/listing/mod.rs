//! Listings of directories, as HTML or JSON.
//!
//! A thread reads and sorts at most [`entries::ENTRIES_MAX`] entries of a directory, once for all
//! requests within `cache.valid`. The body is then written in pieces, so that no listing takes much
//! memory or occupies the core.

pub(crate) mod entries;
mod html;
mod json;
mod order;
mod read_job;
mod reader;
mod timestamp;
mod variants;

use std::rc::Rc;

use bytes::Bytes;
use tidegate_http::FieldLines;

use entries::{ChargedEntries, Entries, Item};
use html::Html;

pub use order::SortOrder;
pub(crate) use read_job::Config;
pub(crate) use reader::DirectoryReader;
pub use reader::READER_THREADS;

/// The kind of a listing in a cache key, beside those of `Purpose`.
pub(crate) const KEY_KIND: u32 = 3;

/// Bytes of a piece, at most.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one entry, at most: its name has 255 bytes, each at most three in the link and six in
/// the text.
const ENTRY_BYTES_MAX: usize = 3 * 1024;

/// The format of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
}

impl Format {
    pub(crate) fn of(wants_json: bool) -> Self {
        if wants_json { Self::Json } else { Self::Html }
    }
}

/// A listing that is being sent.
pub struct Listing {
    entries: Rc<ChargedEntries>,
    writer: Writer,
    order: SortOrder,
    /// Entries written so far.
    count: usize,
    state: State,
}

enum Writer {
    Html(Html),
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Middle,
    Done,
}

impl Listing {
    /// `path` is the decoded path of the directory, with its final slash.
    pub(crate) fn new(
        path: &[u8],
        entries: Rc<ChargedEntries>,
        format: Format,
        order: SortOrder,
    ) -> Self {
        Self {
            order,
            writer: match format {
                Format::Html => Writer::Html(Html::new(path, order)),
                Format::Json => Writer::Json,
            },
            entries,
            count: 0,
            state: State::Start,
        }
    }

    /// The fields of the response. Its length is unknown until it is sent.
    pub fn fields(&self) -> FieldLines<'static> {
        match (&self.writer, self.entries.truncated) {
            (Writer::Html(_), _) => html::FIELDS,
            (Writer::Json, false) => json::FIELDS,
            (Writer::Json, true) => json::FIELDS_TRUNCATED,
        }
    }

    /// Whether the directory has more entries than are listed.
    pub fn is_truncated(&self) -> bool {
        self.entries.truncated
    }

    /// The next bytes of the body, at most 64 KiB; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if self.state == State::Done {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        if self.state == State::Start {
            self.writer.start(&mut piece, &self.entries);
            self.state = State::Middle;
        }
        for position in self.count..self.entries.items().len() {
            let item = self.entries.at(position, self.order);
            if piece.len() + ENTRY_BYTES_MAX > PIECE_BYTES_MAX {
                return Some(piece.into());
            }
            let name = self.entries.name(item);
            self.writer.item(&mut piece, name, item, self.count);
            self.count += 1;
        }
        self.writer.end(&mut piece, &self.entries);
        self.state = State::Done;
        Some(piece.into())
    }
}

impl Writer {
    fn start(&self, out: &mut Vec<u8>, entries: &Entries) {
        match self {
            Self::Html(html) => html.start(out, entries),
            Self::Json => json::start(out),
        }
    }

    fn item(&self, out: &mut Vec<u8>, name: &[u8], item: &Item, index: usize) {
        match self {
            Self::Html(_) => html::item(out, name, item),
            Self::Json => json::item(out, name, item, index),
        }
    }

    fn end(&self, out: &mut Vec<u8>, entries: &Entries) {
        match self {
            Self::Html(_) => html::end(out, entries),
            Self::Json => json::end(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::entries::Budget;

    fn held(items: &[(&[u8], bool)], truncated: bool) -> Rc<ChargedEntries> {
        let mut entries = Entries::default();
        entries.truncated = truncated;
        for (name, is_directory) in items {
            entries.push(name, *is_directory, 1536, 784_111_777);
        }
        entries.finish(&[]);
        Budget::default().charge(entries)
    }

    fn text(items: &[(&[u8], bool)], truncated: bool, format: Format) -> String {
        let mut listing = Listing::new(
            b"/a <b>/",
            held(items, truncated),
            format,
            SortOrder::default(),
        );
        let mut text = Vec::new();
        while let Some(piece) = listing.next_piece() {
            assert!(piece.len() <= PIECE_BYTES_MAX);
            text.extend_from_slice(&piece);
        }
        assert!(listing.next_piece().is_none());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn names_are_escaped_and_links_lead_to_them() {
        let table: [(&[u8], &str, &str); 8] = [
            (b"a.txt", "a.txt", "a.txt"),
            // RFC 3986, section 4.2: with a bare colon "a" were a scheme.
            (b"a:b", "a%3Ab", "a:b"),
            (b"//", "%2F%2F", "//"),
            (b"a=b", "a=b", "a=b"),
            (b"a b?#%", "a%20b%3F%23%25", "a b?#%"),
            (
                b"<script>\"'&",
                "%3Cscript%3E%22%27%26",
                "&lt;script&gt;&quot;&#39;&amp;",
            ),
            (b"\xff\xc3\xa4", "%FF%C3%A4", "\u{fffd}\u{e4}"),
            (b"a\nb", "a%0Ab", "a\u{fffd}b"),
        ];
        for (name, href, shown) in table {
            let html = text(&[(name, false)], false, Format::Html);
            assert!(html.contains(&format!("href=\"{href}\"")), "{html}");
            assert!(html.contains(&format!(">{shown}</a>")), "{html}");
        }
    }

    #[test]
    fn the_path_is_escaped() {
        let html = text(&[], false, Format::Html);
        assert!(
            html.contains("<title>Index of /a &lt;b&gt;/</title>"),
            "{html}"
        );
        assert!(!html.contains("<b>"), "{html}");
    }

    #[test]
    fn a_directory_has_a_slash_and_a_file_a_size() {
        let html = text(&[(b"d", true), (b"f", false)], false, Format::Html);
        assert!(html.contains("href=\"d/\""), "{html}");
        assert!(
            html.contains("<data value=\"1536\">1.5 KiB</data>"),
            "{html}"
        );
        assert!(html.contains("datetime=\"1994-11-06T08:49:37Z\""), "{html}");
    }

    #[test]
    fn json_is_an_array_of_entries() {
        let items: [(&[u8], bool); 2] = [(b"d", true), (b"a\"\\\n\xff", false)];
        let json: serde_json::Value =
            serde_json::from_str(&text(&items, false, Format::Json)).unwrap();
        let expected = serde_json::json!([
            {"name": "d", "type": "directory", "mtime": "1994-11-06T08:49:37Z"},
            {"name": "a\"\\\n\u{fffd}", "type": "file", "mtime": "1994-11-06T08:49:37Z", "size": 1536},
        ]);
        assert_eq!(json, expected);
        assert_eq!(text(&[], false, Format::Json), "[]\n");
    }

    #[test]
    fn a_truncated_listing_says_so() {
        assert!(text(&[(b"a", false)], true, Format::Html).contains("more than 1 "));
        assert!(!text(&[(b"a", false)], false, Format::Html).contains("more than"));
        let json = Listing::new(b"/", held(&[], true), Format::Json, SortOrder::default());
        assert!(json.is_truncated());
        let fields = json.fields().as_bytes();
        assert!(fields.starts_with(json::FIELDS.as_bytes()));
        assert_ne!(json.fields(), json::FIELDS);
    }

    #[test]
    fn the_longest_names_fit_their_pieces() {
        for byte in [b'"', b'\'', b'&', 0xff, 1] {
            let name = [byte; 255];
            let items = [(name.as_slice(), false); 100];
            for format in [Format::Html, Format::Json] {
                text(&items, false, format);
            }
        }
        // The longest path that can be opened.
        let path = [b"/".as_slice(), &[b'"'; 4093], b"/"].concat();
        let mut listing = Listing::new(&path, held(&[], false), Format::Html, SortOrder::default());
        assert!(listing.next_piece().unwrap().len() <= PIECE_BYTES_MAX);
        let path = b"/a".repeat(2047);
        let mut listing = Listing::new(&path, held(&[], false), Format::Html, SortOrder::default());
        assert!(listing.next_piece().unwrap().len() <= PIECE_BYTES_MAX);
    }
}
