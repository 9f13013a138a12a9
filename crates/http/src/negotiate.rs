//! Content negotiation: content codings, and HTML or JSON (RFC 9110, section 12).

use crate::syntax::{list, trim_whitespace};
use crate::{Field, Request};

/// A content coding of a precompressed variant (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, as a rule the smallest first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in Content-Encoding and Accept-Encoding.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The extension of a variant's file, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zst",
            Self::Gzip => "gz",
        }
    }

    /// `x-gzip` is gzip (RFC 9110, section 8.4.1.3).
    fn of(token: &[u8]) -> Option<Self> {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("x-gzip") => Some(Self::Gzip),
            () => Self::ALL.into_iter().find(|coding| is(coding.token())),
        }
    }
}

/// The content codings that a client accepts, with their qualities (Accept-Encoding; RFC 9110,
/// section 12.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// The quality of each [`Coding`], in thousandths; 0: not accepted.
    codings: [u16; Coding::ALL.len()],
    /// The quality of no coding at all. `None`: not named, so accepted if nothing better exists.
    identity: Option<u16>,
}

/// Which of a file and its variants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The variant with this coding.
    Coded(Coding),
    /// The file as it is.
    Identity,
    /// The client accepts none of them, the file as it is included.
    ///
    /// The file should be sent as it is nevertheless. A server may respond with 406 or disregard
    /// the field (RFC 9110, section 12.1), and a client that forbids identity has more use for the
    /// file than for an error.
    None,
}

impl Accepted {
    /// The value for a request without Accept-Encoding: any coding would be acceptable, but few
    /// such clients know one.
    pub const IDENTITY: Self = Self {
        codings: [0; Coding::ALL.len()],
        identity: None,
    };

    /// The Accept-Encoding of a request. An element with a malformed quality is ignored; of two
    /// with the same name the lower quality counts.
    pub fn of(request: &Request<'_>) -> Self {
        if !request.fields.has(Field::AcceptEncoding) {
            return Self::IDENTITY;
        }
        let mut codings = [None; Coding::ALL.len()];
        let mut identity = None;
        let mut others = None;
        for line in request.fields.all(Field::AcceptEncoding) {
            for (name, quality) in list(line).filter_map(weighted) {
                let noted = match Coding::of(name) {
                    Some(coding) => &mut codings[coding as usize],
                    None if name == b"*" => &mut others,
                    None if name.eq_ignore_ascii_case(b"identity") => &mut identity,
                    None => continue,
                };
                *noted = Some(noted.map_or(quality, |before| quality.min(before)));
            }
        }
        Self {
            codings: codings.map(|named| named.or(others).unwrap_or(0)),
            identity: identity.or(others),
        }
    }

    /// Chooses among the codings of the variants that exist. `preferred` is in the order of the
    /// server's preference, which decides between equal qualities; a coding of the same quality as
    /// identity is used.
    pub fn choose(self, preferred: impl IntoIterator<Item = Coding>) -> Choice {
        let best = self.choose_coded(preferred);
        let is_as_good = |coding| self.codings[coding as usize] >= self.identity.unwrap_or(0);
        match (best, self.identity) {
            (Some(coding), _) if is_as_good(coding) => Choice::Coded(coding),
            (_, Some(0)) => Choice::None,
            _ => Choice::Identity,
        }
    }

    /// As [`Accepted::choose`] for a file that exists in these codings alone; `None` if the client
    /// accepts none of them.
    pub fn choose_coded(self, preferred: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best = None;
        let mut best_quality = 0;
        for coding in preferred {
            let quality = self.codings[coding as usize];
            if quality > best_quality {
                (best, best_quality) = (Some(coding), quality);
            }
        }
        best
    }
}

/// Whether a request is for a page to be shown, not for a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Navigation {
    /// The browser says so: Sec-Fetch-Mode is `navigate`, or Sec-Fetch-Dest `document` (Fetch
    /// Metadata Request Headers, sections 2.1 and 2.2).
    Told,
    /// It has no Fetch Metadata, but Accept names text/html, as older browsers do for pages alone.
    TakesHtml,
    /// It has no Fetch Metadata, and Accept is missing or only `*/*`.
    TakesAnything,
    /// It is for something else.
    No,
}

impl Navigation {
    /// Whether `request` is a navigation, by its Fetch Metadata or else its Accept.
    pub fn of(request: &Request<'_>) -> Self {
        let fields = &request.fields;
        match (
            fields.has(Field::SecFetchMode),
            fields.has(Field::SecFetchDest),
        ) {
            (false, false) => Self::of_accept(request),
            (mode, dest) => {
                let navigates = !mode || fields.only(Field::SecFetchMode) == Some(b"navigate");
                let shows = !dest
                    || fields
                        .only(Field::SecFetchDest)
                        .is_some_and(|dest| shows_pages(dest) || mode && dest == PASSED_ON);
                if navigates && shows {
                    Self::Told
                } else {
                    Self::No
                }
            }
        }
    }

    fn of_accept(request: &Request<'_>) -> Self {
        if MediaQuality::of(request, "text", "html").exact.unwrap_or(0) > 0 {
            return Self::TakesHtml;
        }
        let mut ranges = request.fields.all(Field::Accept).flat_map(list);
        let is_any = |range| matches!(weighted(range), Some((b"*/*", 1..)));
        if ranges.all(is_any) {
            Self::TakesAnything
        } else {
            Self::No
        }
    }
}

/// The destination of a navigation that a service worker passes on: `fetch(event.request)` makes a
/// new request with the mode of the first and no destination (Fetch, `new Request(input, init)`).
const PASSED_ON: &[u8] = b"empty";

/// Whether a destination of a navigation is one that pages are shown in. `object` and `embed` are
/// images as often.
fn shows_pages(destination: &[u8]) -> bool {
    let all: [&[u8]; 4] = [b"document", b"frame", b"iframe", b"fencedframe"];
    all.contains(&destination)
}

/// Whether the client would rather have JSON than HTML (RFC 9110, section 12.5.1).
pub fn prefers_json(request: &Request<'_>) -> bool {
    prefers(request, ["application", "json"], ["text", "html"])
}

/// Whether the client would rather have the first media type, each its two parts, than the second
/// (RFC 9110, section 12.5.1). Parameters are ignored.
pub fn prefers(request: &Request<'_>, first: [&str; 2], second: [&str; 2]) -> bool {
    let quality = |[kind, subtype]: [&str; 2]| MediaQuality::of(request, kind, subtype).best();
    request.fields.has(Field::Accept) && quality(first) > quality(second)
}

/// The quality of a media type, by the elements of Accept that match it.
#[derive(Default)]
struct MediaQuality {
    exact: Option<u16>,
    /// The quality of `type/*`.
    kind: Option<u16>,
    /// The quality of `*/*`.
    any: Option<u16>,
}

impl MediaQuality {
    /// Parameters other than the quality are ignored: none matters to a page or a listing.
    fn of(request: &Request<'_>, kind: &str, subtype: &str) -> Self {
        let mut found = Self::default();
        let is = |part: &[u8], name: &str| part.eq_ignore_ascii_case(name.as_bytes());
        for line in request.fields.all(Field::Accept) {
            for (range, quality) in list(line).filter_map(weighted) {
                let Some(slash) = memchr::memchr(b'/', range) else {
                    continue;
                };
                let noted = match (&range[..slash], &range[slash + 1..]) {
                    (b"*", b"*") => &mut found.any,
                    (one, b"*") if is(one, kind) => &mut found.kind,
                    (one, other) if is(one, kind) && is(other, subtype) => &mut found.exact,
                    _ => continue,
                };
                *noted = Some(noted.map_or(quality, |before| quality.max(before)));
            }
        }
        found
    }

    /// The most specific match counts.
    fn best(&self) -> u16 {
        self.exact.or(self.kind).or(self.any).unwrap_or(0)
    }
}

/// An element of a list without its parameters, and its quality in thousandths, 1000 without one.
/// `None` if that is malformed.
fn weighted(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parameters = element.split(|&byte| byte == b';').map(trim_whitespace);
    let name = parameters.next()?;
    let weight = parameters.find_map(|parameter| match parameter {
        [b'q' | b'Q', b'=', weight @ ..] => Some(quality(weight)),
        _ => None,
    });
    Some((name, weight.unwrap_or(Some(1000))?))
}

/// A qvalue in thousandths: 0 to 1 with at most three decimals (RFC 9110, section 12.4.2).
fn quality(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digits = [whole].into_iter().chain(decimals);
    let mut thousandths = 0;
    for (digit, unit) in digits.zip([1000, 100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * unit;
    }
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::with_get;

    fn accepted(value: &str) -> Accepted {
        with_get(&format!("Accept-Encoding: {value}\r\n"), Accepted::of)
    }

    #[test]
    fn codings_are_chosen() {
        use Choice::{Coded, Identity, None};
        use Coding::{Brotli, Gzip, Zstd};
        let all: &[Coding] = &Coding::ALL;
        let gzip: &[Coding] = &[Gzip];
        let gzip_first: &[Coding] = &[Gzip, Brotli];
        #[rustfmt::skip] // one row a line; sections of RFC 9110
        let cases = [
            ("gzip, deflate, br, zstd", all, Coded(Brotli), "12.5.3: the server's order decides"),
            ("gzip, deflate, br", gzip_first, Coded(Gzip), "12.5.3: whatever it is"),
            ("gzip, deflate, br", gzip, Coded(Gzip), "12.5.3: what is there"),
            ("gzip, deflate, br", &[], Identity, "12.5.3: nothing but the file is there"),
            ("gzip", all, Coded(Gzip), "12.5.3: the only one"),
            ("GZip", all, Coded(Gzip), "8.4.1: any case"),
            ("x-gzip", all, Coded(Gzip), "8.4.1.3: an old name"),
            ("zstd", all, Coded(Zstd), "RFC 8878"),
            ("deflate, compress", all, Identity, "12.5.3: none that there can be"),
            ("", all, Identity, "12.5.3: empty, no coding is wanted"),
            ("gzip;q=0.5, br;q=0.4", all, Coded(Gzip), "12.4.2: by quality"),
            ("gzip;q=0.5, br;q=0.501", gzip_first, Coded(Brotli), "12.4.2: to the third decimal"),
            ("gzip ; q=0.5 ,\tbr ;\tq=1.000", gzip_first, Coded(Brotli), "12.4.2: whitespace"),
            ("gzip;Q=0.5, br", gzip_first, Coded(Brotli), "12.4.2: q in any case"),
            ("gzip;q=0", gzip, Identity, "12.4.2: 0 is not acceptable"),
            ("gzip;q=0.0, br;q=0.000", all, Identity, "12.4.2: with decimals too"),
            ("gzip;q=0.001", gzip, Coded(Gzip), "12.4.2: the least there is"),
            ("*", all, Coded(Brotli), "12.5.3: any"),
            ("*", &[], Identity, "12.5.3: the file as it is, too"),
            ("br;q=0, *", all, Coded(Zstd), "12.5.3: any but one"),
            ("*;q=0", all, None, "12.5.3: nothing at all"),
            ("gzip, *;q=0", gzip, Coded(Gzip), "12.5.3: this one alone"),
            ("gzip, *;q=0", &[Brotli], None, "12.5.3: and it is not there"),
            ("identity;q=0", gzip, None, "12.5.3: codings that are not named are not accepted"),
            ("identity;q=0, gzip", gzip, Coded(Gzip), "12.5.3: anything but the file as it is"),
            ("identity;q=0, gzip", &[Brotli], None, "12.5.3: and there is nothing else"),
            ("identity;q=0, *", all, Coded(Brotli), "12.5.3: * stands for codings"),
            ("*;q=0, identity", all, Identity, "12.5.3: named apart from *"),
            ("identity", all, Identity, "12.5.3: no coding"),
            ("deflate;q=0", gzip, Identity, "12.5.3: refuses only what it names"),
            ("gzip, identity", gzip, Coded(Gzip), "12.5.3: as gladly, and smaller"),
            ("gzip;q=0.5, identity", gzip, Identity, "12.5.3: less gladly"),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", all, Coded(Gzip), "12.5.3: the example"),
            ("*;q=0.5, gzip;q=0.2", gzip, Identity, "12.5.3: identity is one of *"),
            ("gzip\r\nAccept-Encoding: br", all, Coded(Brotli), "5.3: two lines are one list"),
            (",, gzip ,", gzip, Coded(Gzip), "5.6.1: empty elements"),
            ("gzip, gzip;q=0", gzip, Identity, "a contradiction: rather not"),
            ("gzip;a=b;q=0", gzip, Identity, "a parameter nobody knows"),
            ("gzip;q=2, br", gzip, Identity, "12.4.2: more than 1, ignored"),
            ("gzip;q=1.001, br", gzip, Identity, "12.4.2: more than 1"),
            ("gzip;q=0.1234", gzip, Identity, "12.4.2: four decimals"),
            ("gzip;q=.5", gzip, Identity, "12.4.2: no digit in front"),
            ("gzip;q=-1", gzip, Identity, "12.4.2: a sign"),
            ("gzip;q=0,5", gzip, Identity, "12.4.2: a comma ends it"),
            ("gzip;q=", gzip, Identity, "12.4.2: empty"),
            ("gzip;q=1x", gzip, Identity, "12.4.2: no number"),
            ("gzip;q=0.x", gzip, Identity, "12.4.2: no digit"),
            ("gzip;q=1.", gzip, Coded(Gzip), "12.4.2: a point and no decimals"),
            ("gzipped", gzip, Identity, "another word"),
            ("gzip br", all, Identity, "no comma"),
        ];
        for (value, preferred, expected, why) in cases {
            let choice = accepted(value).choose(preferred.iter().copied());
            assert_eq!(choice, expected, "{value:?} of {preferred:?}: {why}");
        }
    }

    #[test]
    fn without_the_field_there_is_no_coding() {
        let accepted = with_get("", Accepted::of);
        assert_eq!(accepted, Accepted::IDENTITY);
        assert_eq!(accepted, Accepted::default());
        assert_eq!(accepted.choose(Coding::ALL), Choice::Identity);
    }

    #[test]
    fn navigations_are_told_apart() {
        use Navigation::{No, TakesAnything, TakesHtml, Told};
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        #[rustfmt::skip] // one row a line
        let cases = [
            ("Sec-Fetch-Mode: navigate\r\n", Told, "a browser goes there"),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", Told, "as they all say"),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", Told, "within a page"),
            ("Sec-Fetch-Dest: document\r\n", Told, "a proxy lets one field through"),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: empty\r\n", Told, "a service worker passes it on"),
            ("Sec-Fetch-Dest: empty\r\nAccept: text/html\r\n", No, "fetch(), and a proxy"),
            ("Sec-Fetch-Mode: navigate\r\nAccept: */*\r\n", Told, "whatever it accepts"),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: embed\r\n", No, "an image in an embed"),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: object\r\n", No, "an image in an object"),
            ("Sec-Fetch-Dest: image\r\nAccept: text/html\r\n", No, "an image"),
            ("Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nAccept: */*\r\n", No, "fetch()"),
            ("Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n", No, "a script fetches it"),
            ("Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: document\r\n", No, "a contradiction"),
            ("Sec-Fetch-Mode: no-cors\r\nAccept: text/html\r\n", No, "a page's image"),
            ("Sec-Fetch-Mode: Navigate\r\n", No, "a token of structured fields is case-sensitive"),
            ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Mode: navigate\r\n", No, "twice"),
            (&format!("Accept: {browser}\r\n"), TakesHtml, "a browser without Sec-Fetch-Mode"),
            ("Accept: Text/HTML\r\n", TakesHtml, "any case: RFC 9110, 8.3.1"),
            ("Accept: text/html;charset=utf-8\r\n", TakesHtml, "with a parameter"),
            ("Accept: text/html;q=0.001\r\n", TakesHtml, "not gladly"),
            ("Accept: text/html;q=0\r\n", No, "not at all: RFC 9110, 12.4.2"),
            ("Accept: text/html;q=0, */*\r\n", No, "all but that"),
            ("Accept: */*\r\n", TakesAnything, "link previews, probes, curl"),
            ("Accept: */*;q=0.8\r\n", TakesAnything, "with a quality"),
            ("Accept: */*;q=0\r\n", No, "nothing at all"),
            ("", TakesAnything, "nothing is said: RFC 9110, 12.5.1"),
            ("Accept: application/json, text/plain, */*\r\n", No, "an API's client"),
            ("Accept: image/avif,image/webp,*/*\r\n", No, "an image"),
            ("Accept: text/*\r\n", No, "not by its name"),
            ("Accept: text/css,*/*;q=0.1\r\n", No, "a page's style"),
            ("Accept: application/json\r\n", No, "an API's client"),
            ("Accept: html\r\n", No, "no media type"),
        ];
        for (fields, expected, why) in cases {
            assert_eq!(
                with_get(fields, Navigation::of),
                expected,
                "{fields:?}: {why}"
            );
        }
    }

    #[test]
    fn json_is_preferred() {
        #[rustfmt::skip] // one row a line; sections of RFC 9110
        let cases = [
            ("application/json", true, "12.5.1: nothing else"),
            ("Application/JSON", true, "8.3.1: any case"),
            ("application/json, */*;q=0.1", true, "12.5.1: anything else less gladly"),
            ("application/json, text/html;q=0.9", true, "12.5.1: by quality"),
            ("application/json, text/plain, */*", false, "12.5.1: HTML as gladly, by */*"),
            ("text/html, application/json", false, "12.5.1: as gladly"),
            ("application/json;q=0.5, text/html", false, "12.5.1: by quality"),
            ("application/*, text/html;q=0.5", true, "12.5.1: by its kind"),
            ("application/json;q=0, */*", false, "12.5.1: the more specific one counts"),
            ("text/html;q=0, */*", true, "12.5.1: anything but HTML"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false, "a browser"),
            ("*/*", false, "12.5.1: anything"),
            ("image/png", false, "neither"),
            ("", false, "empty"),
            ("application/json;q=x", false, "12.4.2: malformed, ignored"),
        ];
        for (value, expected, why) in cases {
            let fields = format!("Accept: {value}\r\n");
            assert_eq!(
                with_get(&fields, prefers_json),
                expected,
                "{value:?}: {why}"
            );
        }
        assert!(!with_get("", prefers_json), "12.5.1: no Accept");
    }

    proptest! {
        #[test]
        fn any_accept_encoding_is_read(value in "[gzipbrq=;,*. 01]{0,30}") {
            let choice = accepted(&value).choose([Coding::Gzip]);
            if choice == Choice::Coded(Coding::Gzip) {
                prop_assert!(value.contains("gzip") || value.contains('*'));
            }
        }

        #[test]
        fn a_quality_is_its_thousandths(thousandths in 0..=1000_u16) {
            let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            prop_assert_eq!(quality(text.as_bytes()), Some(thousandths));
        }
    }
}
