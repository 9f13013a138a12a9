//! Which other origins may read a site's files (the CORS protocol of the Fetch standard).
//!
//! Every client gets the same file and credentials have no effect, so one list of origins decides.
//! Without a list no field is sent, and browsers keep other origins out.

use crate::syntax::{is_token, list};
use crate::{ALLOW, Field, FieldBlock, Request};

/// Fields that scripts need to read a file in ranges, beyond the few that they may always read.
const EXPOSED: &str = "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag";

/// The origins that may read a site's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    origins: Vec<String>,
    any: bool,
    max_age_seconds: u64,
}

impl Cors {
    /// Admits these origins, each as browsers write it (`https://example.org`), any origin if one
    /// is `*`, and none if the list is empty. Browsers may cache the response to a preflight for
    /// `max_age_seconds`.
    pub fn new(origins: Vec<String>, max_age_seconds: u64) -> Self {
        Self {
            any: origins.iter().any(|origin| origin == "*"),
            origins,
            max_age_seconds,
        }
    }

    /// Whether no origin is admitted, and no field is sent.
    pub fn is_off(&self) -> bool {
        self.origins.is_empty()
    }

    /// Appends the fields of a response to any method but OPTIONS, errors and 304 included.
    ///
    /// With a list of origins every response varies by Origin, also one to a request without it.
    /// With `*` every response is the same, so that a cached one serves everybody.
    pub fn push_fields(&self, request: &Request<'_>, out: &mut FieldBlock) {
        self.push_vary(out);
        if let Some(origin) = self.admits(request) {
            out.push("Access-Control-Allow-Origin", origin);
            out.push("Access-Control-Expose-Headers", EXPOSED);
        }
    }

    /// Appends the fields of a response to OPTIONS. To the preflight of an admitted origin they
    /// allow the methods there are and every header it asks for: none has an effect here.
    pub fn push_preflight(&self, request: &Request<'_>, out: &mut FieldBlock) {
        self.push_vary(out);
        let Some(origin) = self.admits(request) else {
            return;
        };
        out.push("Access-Control-Allow-Origin", origin);
        if !request.fields.has(Field::Origin)
            || !request.fields.has(Field::AccessControlRequestMethod)
        {
            return;
        }
        out.push("Access-Control-Allow-Methods", ALLOW);
        if let Some(names) = requested_headers(request) {
            out.push("Access-Control-Allow-Headers", names);
        }
        let mut digits = itoa::Buffer::new();
        out.push(
            "Access-Control-Max-Age",
            digits.format(self.max_age_seconds),
        );
    }

    fn push_vary(&self, out: &mut FieldBlock) {
        if !self.any && !self.is_off() {
            out.push("Vary", "Origin");
        }
    }

    /// The origin to admit: that of the request if it is in the list.
    fn admits(&self, request: &Request<'_>) -> Option<&str> {
        if self.any {
            return Some("*");
        }
        if self.is_off() {
            return None;
        }
        let origin = request.fields.only(Field::Origin)?;
        let admitted = self.origins.iter().find(|one| one.as_bytes() == origin);
        admitted.map(String::as_str)
    }
}

/// The header fields that a preflight asks for, if all of them are valid names.
fn requested_headers<'b>(request: &Request<'b>) -> Option<&'b str> {
    let value = request.fields.only(Field::AccessControlRequestHeaders)?;
    let mut names = list(value).peekable();
    names.peek()?;
    if !names.all(|name| name.iter().all(|byte| is_token(*byte))) {
        return None;
    }
    str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pushed, with_get, with_request};

    const VARY: &str = "Vary: Origin\r\n";
    const EXPOSE: &str = "Access-Control-Expose-Headers: Accept-Ranges, Content-Encoding, \
                          Content-Length, Content-Range, ETag\r\n";

    fn cors(origins: &[&str]) -> Cors {
        Cors::new(origins.iter().map(|one| (*one).to_owned()).collect(), 600)
    }

    fn fields(cors: &Cors, lines: &str) -> String {
        with_get(lines, |request| {
            pushed(|out| cors.push_fields(request, out))
        })
    }

    fn preflight(cors: &Cors, lines: &str) -> String {
        with_request("OPTIONS", lines, |request| {
            pushed(|out| cors.push_preflight(request, out))
        })
    }

    #[test]
    fn without_origins_nothing_is_said() {
        let off = cors(&[]);
        assert!(off.is_off());
        assert!(Cors::default().is_off());
        let lines = "Origin: https://a\r\nAccess-Control-Request-Method: GET\r\n";
        assert_eq!(fields(&off, lines), "");
        assert_eq!(preflight(&off, lines), "");
    }

    #[test]
    fn origins_of_a_list_are_let_in() {
        let listed = cors(&["https://a", "http://b:81"]);
        assert!(!listed.is_off());
        let allow =
            |origin: &str| format!("{VARY}Access-Control-Allow-Origin: {origin}\r\n{EXPOSE}");
        #[rustfmt::skip] // one row a line
        let cases = [
            ("Origin: https://a\r\n", allow("https://a"), "the first"),
            ("Origin: http://b:81\r\n", allow("http://b:81"), "the second"),
            ("Origin: https://c\r\n", VARY.to_owned(), "another"),
            ("Origin: http://a\r\n", VARY.to_owned(), "another scheme"),
            ("Origin: https://a:81\r\n", VARY.to_owned(), "another port"),
            ("Origin: https://a.evil\r\n", VARY.to_owned(), "a longer name"),
            ("Origin: https://A\r\n", VARY.to_owned(), "browsers send lower case"),
            ("Origin: null\r\n", VARY.to_owned(), "a sandbox"),
            ("Origin: *\r\n", VARY.to_owned(), "no origin"),
            ("Origin:\r\n", VARY.to_owned(), "empty"),
            ("Origin: https://a\r\nOrigin: https://a\r\n", VARY.to_owned(), "twice"),
            ("", VARY.to_owned(), "none: caches must know that it decides"),
        ];
        for (lines, expected, why) in cases {
            assert_eq!(fields(&listed, lines), expected, "{why}");
        }
    }

    #[test]
    fn any_origin_is_let_in() {
        let any = cors(&["https://a", "*"]);
        let allow = format!("Access-Control-Allow-Origin: *\r\n{EXPOSE}");
        for lines in ["", "Origin: https://c\r\n", "Origin: null\r\n"] {
            assert_eq!(fields(&any, lines), allow, "{lines:?}: for all the same");
        }
    }

    #[test]
    fn preflights_are_answered() {
        let listed = cors(&["https://a"]);
        let allow = "Access-Control-Allow-Origin: https://a\r\n";
        let methods = "Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n";
        let age = "Access-Control-Max-Age: 600\r\n";
        let asks = "Origin: https://a\r\nAccess-Control-Request-Method: GET\r\n";
        let with = |names: &str| format!("{asks}Access-Control-Request-Headers: {names}\r\n");
        let names = |names: &str| {
            format!("{VARY}{allow}{methods}Access-Control-Allow-Headers: {names}\r\n{age}")
        };
        let nameless = format!("{VARY}{allow}{methods}{age}");
        #[rustfmt::skip] // one row a line
        let cases = [
            (asks.to_owned(), nameless.clone(), "a method"),
            (with("range"), names("range"), "and a header"),
            (with("range,if-match"), names("range,if-match"), "two headers"),
            (with(""), nameless.clone(), "no headers"),
            (with("a b"), nameless.clone(), "no names"),
            (with("a\u{e4}"), nameless, "not ASCII"),
            ("Origin: https://a\r\n".to_owned(), format!("{VARY}{allow}"), "no preflight"),
            (asks.replace("//a", "//b"), VARY.to_owned(), "another origin"),
            ("Access-Control-Request-Method: GET\r\n".to_owned(), VARY.to_owned(), "no origin"),
            (String::new(), VARY.to_owned(), "plain OPTIONS"),
        ];
        for (lines, expected, why) in cases {
            assert_eq!(preflight(&listed, &lines), expected, "{why}");
        }
        let any = cors(&["*"]);
        let expected = format!("Access-Control-Allow-Origin: *\r\n{methods}{age}");
        assert_eq!(preflight(&any, asks), expected, "any origin");
    }
}
