//! Listings as HTML: one self-contained page for any screen, light or dark.

use std::borrow::Cow;
use std::io::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tidegate_http::FieldLines;

use crate::listing::entries::{Entries, Item};
use crate::listing::order::{SortBy, SortOrder};
use crate::listing::timestamp::timestamp;

/// The policy allows no scripts and no loads, whatever the names of entries are, and only the style
/// with this hash.
pub(crate) const FIELDS: FieldLines<'static> = FieldLines::from_static(
    "Content-Type: text/html; charset=utf-8\r\n\
    Content-Security-Policy: default-src 'none'; \
    style-src 'sha256-h2wNB6Y4AeCSBG5+e0L0Myk5eXkJ6zj4VCci36E+JcA='\r\n\
    Vary: Accept\r\n",
);

const STYLE: &str = include_str!("style.css");

/// Links encode all characters that have a meaning in a URI or in HTML. A colon in the first
/// segment would end a scheme (RFC 3986, section 4.2). `=` is not encoded, since GDAL and fsspec
/// look for columns such as `year=2026/` in links that they do not decode.
const IN_LINK: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'(')
    .remove(b')')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b'@');

/// The directories of the path are links up to this length of their encoded path and up to
/// [`LINKS_MAX`]: all have to fit into one piece.
const LINK_BYTES_MAX: usize = 1024;
const LINKS_MAX: usize = 16;

pub(crate) struct Html {
    /// The decoded path, with its final slash.
    path: Box<[u8]>,
    order: SortOrder,
}

impl Html {
    pub(crate) fn new(path: &[u8], order: SortOrder) -> Self {
        Self {
            path: path.into(),
            order,
        }
    }

    pub(crate) fn start(&self, out: &mut Vec<u8>, entries: &Entries) {
        let shown = String::from_utf8_lossy(&self.path);
        let title = escape(&shown);
        put(
            out,
            format_args!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <meta name=\"color-scheme\" content=\"light dark\">\n\
                 <title>Index of {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>"
            ),
        );
        self.links_above(out);
        let (directories, files) = counts(entries);
        put(
            out,
            format_args!("</h1>\n<p>{directories}, {files}</p>\n<form>\n<table>\n<thead><tr>"),
        );
        for (by, value, shown) in COLUMNS {
            heading(out, self.order, by, value, shown);
        }
        out.extend_from_slice(b"</tr></thead>\n<tbody>\n");
        if self.path.len() > 1 {
            out.extend_from_slice(UP.as_bytes());
        }
    }

    /// The path, with an absolute link for each directory above the listed one.
    ///
    /// `/` is no link. Programs that parse listings ignore absolute links, but some take `../../`,
    /// `/` or `/?` for an entry (fsspec, GDAL), or the last name after any `<a href="` (GDAL).
    fn links_above(&self, out: &mut Vec<u8>) {
        let names = self.path.split(|byte| *byte == b'/');
        let mut names = names.filter(|name| !name.is_empty()).peekable();
        link_above(out, None, "/");
        let mut href = String::from("/");
        let mut depth = 0;
        while let Some(name) = names.next() {
            depth += 1;
            href.extend(percent_encode(name, IN_LINK));
            href.push('/');
            let is_link =
                names.peek().is_some() && depth <= LINKS_MAX && href.len() <= LINK_BYTES_MAX;
            let shown = String::from_utf8_lossy(name);
            link_above(out, is_link.then_some(href.as_str()), &escape(&shown));
            out.extend_from_slice(b"<wbr>/");
        }
    }
}

/// The sortable columns in order: property, value in the query, heading.
const COLUMNS: [(SortBy, &str, &str); 3] = [
    (SortBy::Name, "name", "Name"),
    (SortBy::Size, "size", "Size"),
    (SortBy::Date, "date", "Modified (UTC)"),
];

/// The heading of a column: a button that sorts by it, or reverses its order. Not a link, which
/// programs would take for an entry.
fn heading(out: &mut Vec<u8>, order: SortOrder, by: SortBy, value: &str, shown: &str) {
    let (sorted, minus) = match (order.by == by, order.descending) {
        (true, false) => (" aria-sort=\"ascending\"", "-"),
        (true, true) => (" aria-sort=\"descending\"", ""),
        (false, _) => ("", ""),
    };
    put(
        out,
        format_args!(
            "<th scope=\"col\"{sorted}><button name=\"sort\" value=\"{minus}{value}\">{shown}</button></th>"
        ),
    );
}

pub(crate) fn item(out: &mut Vec<u8>, name: &[u8], item: &Item) {
    let slash = if item.is_directory { "/" } else { "" };
    let class = if item.is_directory {
        " class=\"d\""
    } else {
        ""
    };
    let href = percent_encode(name, IN_LINK);
    let shown = String::from_utf8_lossy(name);
    let name = escape(&shown);
    put(
        out,
        format_args!("<tr{class}><td><a href=\"{href}{slash}\">{name}</a></td>"),
    );
    if item.is_directory {
        out.extend_from_slice(b"<td></td>");
    } else {
        let (bytes, size) = (item.len, size(item.len));
        put(
            out,
            format_args!("<td><data value=\"{bytes}\">{size}</data></td>"),
        );
    }
    let time = timestamp(item.modified);
    let (date, clock) = (&time[..10], &time[11..16]);
    put(
        out,
        format_args!(
            "<td><time datetime=\"{time}\" title=\"{time}\">{date} <span>{clock}</span></time></td></tr>\n"
        ),
    );
}

pub(crate) fn end(out: &mut Vec<u8>, entries: &Entries) {
    out.extend_from_slice(b"</tbody>\n</table>\n</form>\n");
    if entries.truncated {
        let count = entries.items().len();
        put(
            out,
            format_args!(
                "<p class=\"more\">This directory has more than {count} entries; the others are not listed.</p>\n"
            ),
        );
    }
    out.extend_from_slice(b"</main>\n</body>\n</html>\n");
}

const UP: &str = "<tr class=\"d\"><td><a href=\"../\">..</a></td><td></td><td></td></tr>\n";

/// Appends the name of a directory, as a link if there is an `href`.
fn link_above(out: &mut Vec<u8>, href: Option<&str>, shown: &str) {
    match href {
        Some(href) => put(
            out,
            format_args!("<a class=\"above\" href=\"{href}\">{shown}</a>"),
        ),
        None => put(out, format_args!("<span>{shown}</span>")),
    }
}

fn counts(entries: &Entries) -> (String, String) {
    let directories = entries.items().iter().take_while(|item| item.is_directory);
    let directories = directories.count();
    let files = entries.items().len() - directories;
    (
        count(directories, "directory", "directories"),
        count(files, "file", "files"),
    )
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A size with a unit and at most three digits before the point.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Escapes text for HTML content and quoted attributes.
fn escape(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '&' | '<' | '>' | '"' | '\'');
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A terminal that shows the page would interpret them.
            control if control.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec does not fail.
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_lets_the_style_of_the_page_through() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(format!("\n{STYLE}")));
        let fields = str::from_utf8(FIELDS.as_bytes()).unwrap();
        let allowed = format!("style-src 'sha256-{hash}'");
        assert!(fields.contains(&allowed), "{allowed}");
    }

    #[test]
    fn sizes_are_readable() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (10 * 1024 * 1024, "10.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn the_path_leads_up() {
        let html = |path: &[u8]| {
            let mut out = Vec::new();
            Html::new(path, SortOrder::default()).start(&mut out, &Entries::default());
            String::from_utf8(out).unwrap()
        };
        let page = html(b"/a \"/b&c/");
        assert!(
            page.contains("<span>/</span><a class=\"above\" href=\"/a%20%22/\">a &quot;</a>"),
            "{page}"
        );
        assert!(page.contains("<span>b&amp;c</span>"), "{page}");
        assert!(page.contains("href=\"../\">..</a>"), "{page}");
        assert!(!html(b"/").contains("href="));
    }
}
