//! Patterns for paths, as shells and `.gitignore` know them.
//!
//! A pattern is held against the whole path of a request, percent-decoded, with
//! its leading slash. It becomes an anchored regular expression over bytes, so
//! matching takes time linear in the path whatever the pattern is.
//!
//! | pattern | matches | captures |
//! |---|---|---|
//! | `*` | any bytes but `/`, none too | yes |
//! | `**` | any bytes | yes |
//! | `/**/` | `/`, and `/` any bytes `/` | what is between |
//! | `?` | one character but `/` | yes |
//! | `[a-z0]` `[!a-z]` | one character of these, or but these; never `/` | no |
//! | `{a,b*}` | one of these patterns; they may nest | only what is within |
//! | `\*` | the next character as it is | no |
//!
//! `*` and `**` take as much as they can, from the left. They match names that
//! are not UTF-8, which the others do not.

use std::fmt;
use std::str::FromStr;

use regex::bytes::Regex;
use serde::ser::{Serialize, Serializer};

use crate::ValueError;

/// Longer patterns are mistakes, and cost memory in every match.
const BYTES_MAX: usize = 1024;

/// Any bytes but `/`; captured.
const SEGMENT: &str = "((?-u:[^/])*)";
/// Any bytes; captured.
const ANYTHING: &str = "((?s-u:.)*)";
/// Directories and the slash after them, or nothing; the directories are captured.
const DIRECTORIES: &str = "(?:((?s-u:.)*)/)?";
/// One character but `/`; captured.
const CHARACTER: &str = "([^/])";

/// A pattern for the paths of requests.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    regex: Regex,
    /// Bytes of the text, from its start, that stand for themselves.
    prefix_len: usize,
}

impl Glob {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern as a regular expression, anchored at both ends. Match it with
    /// a whole path, percent-decoded.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Whether it matches a path, percent-decoded. Most that do not are told without the regular expression.
    pub(crate) fn is_match(&self, path: &[u8]) -> bool {
        path.starts_with(&self.text.as_bytes()[..self.prefix_len]) && self.regex.is_match(path)
    }

    /// How many captures a match has: `$1` is the first, this number the last.
    /// A capture may have no part in a match; then it stands for nothing.
    pub fn captures(&self) -> usize {
        // The first is the whole match.
        self.regex.captures_len() - 1
    }
}

impl FromStr for Glob {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |reason: String| {
            let text = text.escape_debug();
            ValueError::new(format!("`{text}` is not a pattern for paths: {reason}"))
        };
        if text.len() > BYTES_MAX {
            return Err(ValueError::new(format!(
                "a pattern of {} bytes: {BYTES_MAX} is the most",
                text.len()
            )));
        }
        let source = Translation::new(text).run().map_err(refuse)?;
        let regex = Regex::new(&source)
            .map_err(|_| refuse("it is too large, or braces nest too deep".to_owned()))?;
        let prefix_len = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
        Ok(Self {
            text: text.to_owned(),
            regex,
            prefix_len,
        })
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

type Step = Result<(), String>;

/// A pattern on its way to a regular expression.
struct Translation<'t> {
    text: &'t str,
    rest: &'t str,
    regex: String,
    /// Whether the path begins with what comes next.
    at_start: bool,
    /// For each open brace, whether the path begins with its alternatives.
    braces: Vec<bool>,
}

impl<'t> Translation<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            rest: text,
            regex: r"\A".to_owned(),
            at_start: true,
            braces: Vec::new(),
        }
    }

    /// The regular expression, or why there is none.
    fn run(mut self) -> Result<String, String> {
        if self.text.is_empty() {
            return Err("it is empty".to_owned());
        }
        while !self.rest.is_empty() {
            self.refuse_no_path()?;
            self.step()?;
        }
        if !self.braces.is_empty() {
            return Err(r"a `{` without its `}`; a brace itself is `\{`".to_owned());
        }
        self.regex.push_str(r"\z");
        Ok(self.regex)
    }

    fn step(&mut self) -> Step {
        let Some(char) = self.next() else {
            return Ok(());
        };
        let at_start = std::mem::take(&mut self.at_start);
        match char {
            '/' => self.slash(),
            '*' => self.stars()?,
            '?' => self.character()?,
            '[' => self.class()?,
            '{' => self.open(at_start),
            ',' if !self.braces.is_empty() => self.alternative(),
            '}' => self.close()?,
            '\\' => {
                let char = self.escaped()?;
                self.literal(char);
            }
            '%' => self.percent()?,
            char => self.literal(char),
        }
        Ok(())
    }

    /// Every path begins with a slash: refuses what cannot.
    fn refuse_no_path(&self) -> Step {
        let can = ["/", "**", "{", "}", ",", r"\/"];
        if !self.at_start || can.iter().any(|start| self.rest.starts_with(start)) {
            return Ok(());
        }
        let text = self.text.escape_debug();
        if text.to_string().contains("://") {
            return Err(
                "it has no host: site.names says which hosts a site answers for".to_owned(),
            );
        }
        Err(format!(
            "every path begins with `/`; write `/{text}`, or `**/{text}` for any directory"
        ))
    }

    /// A slash, and the directories after it that may be there or not.
    fn slash(&mut self) {
        self.regex.push('/');
        while let Some(rest) = self.rest.strip_prefix("**/") {
            self.regex.push_str(DIRECTORIES);
            self.rest = rest;
        }
    }

    fn stars(&mut self) -> Step {
        let double = self.take('*');
        self.regex.push_str(if double { ANYTHING } else { SEGMENT });
        if double && self.rest.starts_with('*') {
            return Err("three stars in a row; `**` matches anything".to_owned());
        }
        Ok(())
    }

    fn open(&mut self, at_start: bool) {
        self.regex.push_str("(?:");
        self.braces.push(at_start);
        self.at_start = at_start;
    }

    fn alternative(&mut self) {
        self.regex.push('|');
        self.at_start = self.braces.last().is_some_and(|at_start| *at_start);
    }

    fn close(&mut self) -> Step {
        self.regex.push(')');
        let brace = self.braces.pop();
        brace
            .map(drop)
            .ok_or_else(|| r"a `}` without its `{`; a brace itself is `\}`".to_owned())
    }

    /// One character. What looks like a query is refused: it is no part of a path.
    fn character(&mut self) -> Step {
        let other = |char: char| !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'));
        let name = self.rest.find(other);
        if name.is_some_and(|end| end > 0 && self.rest[end..].starts_with('=')) {
            return Err(
                r"a query is no part of a path, and a `?` is any character; a `=` in a name is `\=`"
                    .to_owned(),
            );
        }
        self.regex.push_str(CHARACTER);
        Ok(())
    }

    /// A percent sign, which is one: an escape would never match a path, which is decoded.
    fn percent(&mut self) -> Step {
        let digits = self.rest.as_bytes().get(..2);
        if let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let escape = digits.escape_ascii();
            return Err(format!(
                r"paths are compared decoded: write the character that `%{escape}` stands for, or `\%{escape}` for these three"
            ));
        }
        self.literal('%');
        Ok(())
    }

    /// What follows `[`, to its `]`.
    fn class(&mut self) -> Step {
        let negated = self.take('!') || self.take('^');
        let mut items = String::new();
        while items.is_empty() || !self.take(']') {
            items.push_str(&self.class_item()?);
        }
        let class = if negated {
            format!("[^/{items}]")
        } else {
            format!("[[{items}]&&[^/]]")
        };
        self.regex.push_str(&class);
        Ok(())
    }

    /// A character or a range of them. A `-` before the end is a character.
    fn class_item(&mut self) -> Result<String, String> {
        let first = self.class_char()?;
        if !self.rest.starts_with('-') || self.rest.starts_with("-]") {
            return Ok(escape(first));
        }
        self.take('-');
        let last = self.class_char()?;
        if first > last {
            return Err(format!(
                "the range `{first}-{last}` is inverted: write `{last}-{first}`"
            ));
        }
        Ok(format!("{}-{}", escape(first), escape(last)))
    }

    fn class_char(&mut self) -> Result<char, String> {
        match self.next() {
            Some('\\') => self.escaped(),
            Some('/') => Err("brackets match one character, and never `/`".to_owned()),
            Some(char) => Ok(char),
            None => Err(r"a `[` without its `]`; a bracket itself is `\[`".to_owned()),
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        self.next()
            .ok_or_else(|| r"nothing follows the last `\`; a backslash itself is `\\`".to_owned())
    }

    fn literal(&mut self, char: char) {
        self.regex.push_str(&escape(char));
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let char = chars.next();
        self.rest = chars.as_str();
        char
    }

    /// Whether `char` came next; then it is taken.
    fn take(&mut self, char: char) -> bool {
        let rest = self.rest.strip_prefix(char);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

fn escape(char: char) -> String {
    regex::escape(char.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().expect(text)
    }

    /// What the captures of a match are; "-" for one that had no part in it.
    fn captures(text: &str, path: &[u8]) -> Option<Vec<String>> {
        let captures = glob(text).regex().captures(path)?;
        let groups = captures.iter().skip(1).map(|group| {
            group.map_or_else(
                || "-".to_owned(),
                |group| String::from_utf8_lossy(group.as_bytes()).into_owned(),
            )
        });
        Some(groups.collect())
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn paths_and_captures() {
        // Pattern, path, captures if it matches.
        let rows: &[(&str, &str, Option<&[&str]>)] = &[
            ("/a", "/a", Some(&[])),
            ("/a", "/ab", None),
            ("/a", "/x/a", None),
            ("/a", "/A", None),
            ("/a.b", "/axb", None),
            ("/*", "/", Some(&[""])),
            ("/*", "/a", Some(&["a"])),
            ("/*", "/a/b", None),
            ("/*", "/a\nb", Some(&["a\nb"])),
            ("/*.js", "/.js", Some(&[""])),
            ("/*-*.js", "/a-b-c.js", Some(&["a-b", "c"])),
            ("/a*/*", "/ab/c", Some(&["b", "c"])),
            ("**", "/", Some(&["/"])),
            ("**", "/a/b", Some(&["/a/b"])),
            ("/**", "/", Some(&[""])),
            ("/**", "/a/b\n/c", Some(&["a/b\n/c"])),
            ("/a/**", "/a", None),
            ("/a/**", "/a/", Some(&[""])),
            ("/a**z", "/a/b/z", Some(&["/b/"])),
            ("**.js", "/a/b.js", Some(&["/a/b"])),
            ("**/*.js", "/b.js", Some(&["", "b"])),
            ("**/*.js", "/a/b.js", Some(&["/a", "b"])),
            ("/**/*.js", "/b.js", Some(&["-", "b"])),
            ("/**/*.js", "/x/y/b.js", Some(&["x/y", "b"])),
            ("/a/**/b", "/a/b", Some(&["-"])),
            ("/a/**/b", "/a//b", Some(&[""])),
            ("/a/**/b", "/a/x/y/b", Some(&["x/y"])),
            ("/a/**/b", "/ab", None),
            ("/a/**/**/b", "/a/b", Some(&["-", "-"])),
            ("/a/**/**/b", "/a/x/y/b", Some(&["x/y", "-"])),
            ("/a/**/", "/a/", Some(&["-"])),
            ("/?", "/a", Some(&["a"])),
            ("/?", "/é", Some(&["é"])),
            ("/?", "/", None),
            ("/?", "/ab", None),
            ("/?b", "//b", None),
            ("/[a-c]", "/b", Some(&[])),
            ("/[a-c]", "/d", None),
            ("/[a-cx]", "/x", Some(&[])),
            ("/[!a-c]", "/d", Some(&[])),
            ("/[^a-c]", "/b", None),
            ("/a[!b]c", "/a/c", None),
            ("/a[+-9]c", "/a/c", None),
            ("/a[+-9]c", "/a.c", Some(&[])),
            ("/[]a]", "/]", Some(&[])),
            ("/[!]]", "/]", None),
            ("/[a-]", "/-", Some(&[])),
            ("/[-a]", "/-", Some(&[])),
            (r"/[\]]", "/]", Some(&[])),
            ("/[&&^~]", "/^", Some(&[])),
            ("/[[]", "/[", Some(&[])),
            ("/[à-ü]", "/é", Some(&[])),
            ("/*.{js,css}", "/a.css", Some(&["a"])),
            ("/*.{js,css}", "/a.txt", None),
            ("/{a,b/*}/c", "/a/c", Some(&["-"])),
            ("/{a,b/*}/c", "/b/x/c", Some(&["x"])),
            ("/a{,.html}", "/a", Some(&[])),
            ("/a{,.html}", "/a.html", Some(&[])),
            ("/{a,b{c,d}}", "/bd", Some(&[])),
            ("/{a,b{c,d}}", "/bc,d", None),
            ("{/a,/b/**}", "/b/c", Some(&["c"])),
            ("{/a,/b}/?", "/b/c", Some(&["c"])),
            ("/a,b]", "/a,b]", Some(&[])),
            (r"/\*\?\[\{\}\\", r"/*?[{}\", Some(&[])),
            (r"/\[slug\].js", "/[slug].js", Some(&[])),
            (r"\/a", "/a", Some(&[])),
            ("/a|b", "/a", None),
            ("/(a)+", "/(a)+", Some(&[])),
            ("/^$ #", "/^$ #", Some(&[])),
            ("/a?=*", "/ab=c", Some(&["b", "c"])),
            (r"/a?b\=*", "/a?b=c", Some(&["?", "c"])),
            ("/100%", "/100%", Some(&[])),
            ("/100%-2%0", "/100%-2%0", Some(&[])),
            (r"/a\%20b", "/a%20b", Some(&[])),
        ];
        for (text, path, expected) in rows {
            let found = captures(text, path.as_bytes());
            assert_eq!(glob(text).is_match(path.as_bytes()), found.is_some(), "{text} {path:?}");
            let expected = expected.map(|groups| groups.iter().map(|&group| group.to_owned()).collect());
            assert_eq!(found, expected, "{text} {path:?}");
        }
    }

    #[test]
    fn names_that_are_not_utf8() {
        let rows = [
            ("/*", true),
            ("/**", true),
            ("/**/*", true),
            ("/?", false),
            ("/[!a]", false),
        ];
        for (text, matches) in rows {
            assert_eq!(glob(text).regex().is_match(b"/\xff"), matches, "{text}");
        }
    }

    #[test]
    fn captures_are_counted() {
        let rows = [
            ("/a", 0),
            ("/*/**/?", 3),
            ("/**/**/a", 2),
            ("/{*,**}[*]", 2),
            (r"/\*[?]", 0),
        ];
        for (text, count) in rows {
            assert_eq!(glob(text).captures(), count, "{text}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn what_is_no_pattern() {
        let long = "/".repeat(1025);
        let rows = [
            ("", "it is empty"),
            ("a", "every path begins with `/`; write `/a`, or `**/a` for any directory"),
            ("*.js", "every path begins with `/`; write `/*.js`, or `**/*.js` for any directory"),
            ("?", "every path begins"),
            ("[a]", "every path begins"),
            (r"\*", "every path begins"),
            ("{/a,b}", "every path begins"),
            ("{{/a,/b},*}", "every path begins"),
            ("/***", "three stars"),
            ("/****", "three stars"),
            ("/[a", "a `[` without its `]`"),
            ("/[", "a `[` without its `]`"),
            ("/[]", "a `[` without its `]`"),
            ("/[!]", "a `[` without its `]`"),
            ("/[a-", "a `[` without its `]`"),
            ("/[z-a]", "the range `z-a` is inverted: write `a-z`"),
            ("/[/]", "brackets match one character, and never `/`"),
            ("/[a-/]", "brackets match one character, and never `/`"),
            ("/{a", "a `{` without its `}`"),
            ("/{a,{b}", "a `{` without its `}`"),
            ("/a}", "a `}` without its `{`"),
            ("/old.php?id=*", "a query is no part of a path"),
            ("/**?utm_source=a", "a query is no part of a path"),
            ("https://a.example/**", "it has no host: site.names says"),
            ("/a%20b", r"paths are compared decoded: write the character that `%20` stands for, or `\%20` for these three"),
            ("/caf%C3%a9", "the character that `%C3` stands for"),
            (r"/a\", r"nothing follows the last `\`"),
            (&long, "1024 is the most"),
        ];
        for (text, reason) in rows {
            let error = text.parse::<Glob>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    /// Whether `path` matches `glob`, by trying everything; for `*`, `**`, `?` and `/**/` alone.
    fn matches(glob: &[u8], path: &[u8]) -> bool {
        if let Some(rest) = glob.strip_prefix(b"/**/") {
            let slash = [b"/", rest].concat();
            // Either the directories are not there, or they take a byte more.
            let inner = path
                .strip_prefix(b"/")
                .is_some_and(|path| (0..=path.len()).any(|at| matches(&slash, &path[at..])));
            return matches(&slash, path) || inner;
        }
        if let Some(rest) = glob.strip_prefix(b"**") {
            return (0..=path.len()).any(|at| matches(rest, &path[at..]));
        }
        match (glob, path) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                let segment = path.iter().take_while(|byte| **byte != b'/').count();
                (0..=segment).any(|at| matches(rest, &path[at..]))
            }
            ([b'?', glob @ ..], [byte, path @ ..]) => *byte != b'/' && matches(glob, path),
            ([want, glob @ ..], [byte, path @ ..]) => want == byte && matches(glob, path),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn as_trying_everything_says(text in "/([ab/]|/\\*\\*/|\\*|\\?){0,6}", path in "/[ab/]{0,7}") {
            if let Ok(glob) = text.parse::<Glob>() {
                let expected = matches(text.as_bytes(), path.as_bytes());
                prop_assert_eq!(glob.regex().is_match(path.as_bytes()), expected, "{} {}", text, path);
                prop_assert_eq!(glob.is_match(path.as_bytes()), expected, "{} {}", text, path);
            }
        }

        #[test]
        fn captures_put_in_place_give_the_path(text in "/([ab/]|\\*\\*?a|\\?){0,6}", path in "/[ab/]{0,7}") {
            prop_assume!(!text.contains("/**/"));
            let glob = glob(&text);
            if let Some(captures) = glob.regex().captures(path.as_bytes()) {
                let mut again = text.replace("**", "*");
                for capture in captures.iter().skip(1) {
                    let capture = std::str::from_utf8(capture.unwrap().as_bytes()).unwrap();
                    again = again.replacen(['*', '?'], capture, 1);
                }
                prop_assert_eq!(again, path);
            }
        }

        #[test]
        fn an_escaped_text_matches_itself(text in "\\PC{0,12}", other in "\\PC{0,12}") {
            let escaped: String = text.chars().flat_map(|char| ['\\', char]).collect();
            let glob = glob(&format!("/{escaped}"));
            prop_assert_eq!(glob.captures(), 0);
            let matched = glob.regex().is_match(format!("/{text}").as_bytes());
            prop_assert!(matched);
            prop_assert_eq!(glob.regex().is_match(format!("/{other}").as_bytes()), text == other);
        }

        #[test]
        fn no_text_panics_and_none_comes_to_a_wrong_regex(text in "/?([*?\\[\\]{},!^/a-c\\\\-]|\\PC){0,16}") {
            if let Err(error) = text.parse::<Glob>() {
                prop_assert!(!error.to_string().contains("too large"), "{}: {}", text, error);
            }
        }
    }
}
