//! Glob patterns for paths, as in shells and `.gitignore`.
//!
//! A pattern matches the whole path of a request, percent-decoded, with its leading slash. It is
//! compiled to an anchored regular expression over bytes, so matching takes time linear in the path
//! whatever the pattern is.
//!
//! | pattern | matches | captures |
//! |---|---|---|
//! | `*` | any bytes but `/`, or none | yes |
//! | `**` | any bytes | yes |
//! | `/**/` | `/`, or `/` any bytes `/` | the bytes between |
//! | `?` | one character except `/` | yes |
//! | `[a-z0]` `[!a-z]` | one character of the set, or outside it; never `/` | yes |
//! | `[a-f0-9]{12}` `?{8,}` `?{2,4}` | that many of these characters | all of them, as one |
//! | `{a,b*}` | one of these patterns; may nest | yes, and the captures within |
//! | `\*` | the next character, literally | no |
//!
//! Captures are numbered by their start, from the left. `*`, `**` and repetitions are greedy. `*`
//! and `**` also match bytes that are not UTF-8; the others do not.

use std::fmt;
use std::str::FromStr;

use regex::bytes::Regex;
use serde::ser::{Serialize, Serializer};

use crate::{ValueError, mistaken_regex};

/// A longer pattern is a mistake, and costs memory in every match.
const BYTES_MAX: usize = 1024;

/// The longest file name on Linux (`NAME_MAX`); each repetition is a state of the automaton.
const REPETITIONS_MAX: u32 = 255;

/// Any bytes except `/`; captured.
const SEGMENT: &str = "((?-u:[^/])*)";
/// Any bytes; captured.
const ANYTHING: &str = "((?s-u:.)*)";
/// Directories and the slash after them, or nothing; captures the directories.
const DIRECTORIES: &str = "(?:((?s-u:.)*)/)?";
/// One character except `/`.
const CHARACTER: &str = "[^/]";

/// A pattern for the paths of requests.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    regex: Regex,
    /// Bytes at the start of the text that are literal.
    prefix_len: usize,
}

impl Glob {
    /// Compiles a pattern; refuses text that looks like a regular expression. `ignore_case` uses
    /// Unicode's simple case folding.
    pub fn new(text: &str, ignore_case: bool) -> Result<Self, ValueError> {
        let is_glob = |text: &str| Translation::new(text).run().is_ok();
        match mistaken_regex::reason(text, is_glob) {
            Some(reason) => Err(refusal(text, &reason)),
            None => Self::translate(text, ignore_case),
        }
    }

    /// Compiles a pattern, even if it looks like a regular expression.
    pub(crate) fn translate(text: &str, ignore_case: bool) -> Result<Self, ValueError> {
        if text.len() > BYTES_MAX {
            return Err(ValueError::new(format!(
                "a pattern of {} bytes: {BYTES_MAX} is the most",
                text.len()
            )));
        }
        let source = Translation::new(text).run();
        let source = source.map_err(|reason| refusal(text, &reason))?;
        let flag = if ignore_case { "(?i)" } else { "" };
        let regex = Regex::new(&format!("{flag}{source}"))
            .map_err(|_| refusal(text, "it is too large, or braces nest too deep"))?;
        Ok(Self {
            text: text.to_owned(),
            regex,
            prefix_len: prefix_len(text, ignore_case),
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The compiled regular expression, anchored at both ends, for a whole percent-decoded path.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Whether it matches all of `path`, percent-decoded. Most paths that do not match fail the
    /// comparison with the literal prefix, before the regular expression runs.
    pub fn is_match(&self, path: &[u8]) -> bool {
        path.starts_with(self.prefix()) && self.regex.is_match(path)
    }

    /// The literal prefix of every path that it matches.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.text.as_bytes()[..self.prefix_len]
    }

    /// The number of captures, `$1` being the first. A capture that takes no part in a match is
    /// empty.
    pub fn captures(&self) -> usize {
        // Group 0 is the whole match.
        self.regex.captures_len() - 1
    }

    /// Refuses the first of these numbers, from 1, that is no capture.
    pub(crate) fn check_captures(
        &self,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Result<(), ValueError> {
        let mut numbers = numbers.into_iter();
        let Some(number) = numbers.find(|number| *number > self.captures()) else {
            return Ok(());
        };
        let there = match self.captures() {
            0 => "no captures".to_owned(),
            1 => "one capture".to_owned(),
            count => format!("{count} captures"),
        };
        Err(ValueError::new(format!(
            "`${number}` captures nothing: `{self}` has {there}"
        )))
    }
}

impl FromStr for Glob {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::new(text, false)
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.regex.as_str() == other.regex.as_str()
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

fn refusal(text: &str, reason: &str) -> ValueError {
    let text = text.escape_debug();
    ValueError::new(format!("`{text}` is not a pattern for paths: {reason}"))
}

/// The number of bytes at the start of a pattern that every matching path begins with.
fn prefix_len(text: &str, ignore_case: bool) -> usize {
    let has_case = |char: char| ignore_case && (char.is_alphabetic() || !char.is_ascii());
    let is_special = |char| matches!(char, '*' | '?' | '[' | '{' | '\\') || has_case(char);
    text.find(is_special).unwrap_or(text.len())
}

type Step = Result<(), String>;

/// Translates a pattern to a regular expression.
struct Translation<'t> {
    text: &'t str,
    rest: &'t str,
    regex: String,
    /// Whether `rest` matches the start of the path.
    at_start: bool,
    /// For each open brace, whether its alternatives match the start of the path.
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

    /// The regular expression, or the reason for a refusal.
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

    /// Refuses a pattern that cannot match a slash at the start, where every path has one.
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

    /// A slash, and any `**/` after it: optional directories.
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
        self.regex.push('(');
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

    /// One character. Refuses what looks like a query, which is not part of a path.
    fn character(&mut self) -> Step {
        let other = |char: char| !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'));
        let name = self.rest.find(other);
        if name.is_some_and(|end| end > 0 && self.rest[end..].starts_with('=')) {
            return Err(
                r"a query is no part of a path, and a `?` is any character; a `=` in a name is `\=`"
                    .to_owned(),
            );
        }
        self.repeatable(CHARACTER)
    }

    /// A capture of `class`, repeated if a repetition follows.
    fn repeatable(&mut self, class: &str) -> Step {
        let times = self.repetition()?;
        for part in ["(", class, &times, ")"] {
            self.regex.push_str(part);
        }
        Ok(())
    }

    /// The repetition that follows, such as `{2,4}`; empty if none does.
    fn repetition(&mut self) -> Result<String, String> {
        let inner = self
            .rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'));
        let Some((times, rest)) = inner.filter(|(times, _)| is_repetition(times)) else {
            return Ok(String::new());
        };
        refuse_odd_repetition(times)?;
        self.rest = rest;
        Ok(format!("{{{times}}}"))
    }

    /// A literal percent sign. Refuses a percent-encoded byte: paths are matched decoded.
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

    /// The set after `[`, up to its `]`.
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
        self.repeatable(&class)
    }

    /// A character or a range. A `-` before the closing bracket is literal.
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

    /// Takes `char` if it comes next; whether it did.
    fn take(&mut self, char: char) -> bool {
        let rest = self.rest.strip_prefix(char);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// Whether it has the form `12`, `8,` or `8,64`.
fn is_repetition(times: &str) -> bool {
    let (min, max) = times.split_once(',').unwrap_or((times, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !min.is_empty() && is_digits(min) && is_digits(max)
}

/// Refuses repetitions that match nothing or are longer than any name.
fn refuse_odd_repetition(times: &str) -> Step {
    let (min, max) = times.split_once(',').unwrap_or((times, times));
    let number = |text: &str| text.parse().unwrap_or(u32::MAX);
    let (min, max) = (
        number(min),
        if max.is_empty() {
            None
        } else {
            Some(number(max))
        },
    );
    if min.max(max.unwrap_or_default()) > REPETITIONS_MAX {
        return Err(format!(
            "`{{{times}}}` repeats a character more than {REPETITIONS_MAX} times, which no name has; \
             `{{8,}}` has no upper end"
        ));
    }
    match max {
        Some(max) if max < min => Err(format!(
            "the repetition `{{{times}}}` is inverted: write `{{{max},{min}}}`"
        )),
        Some(0) => Err(format!(
            "`{{{times}}}` repeats a character no times: leave it out"
        )),
        _ => Ok(()),
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
            ("/[a-c]", "/b", Some(&["b"])),
            ("/[a-c]", "/d", None),
            ("/[a-cx]", "/x", Some(&["x"])),
            ("/[!a-c]", "/d", Some(&["d"])),
            ("/[^a-c]", "/b", None),
            ("/a[!b]c", "/a/c", None),
            ("/a[+-9]c", "/a/c", None),
            ("/a[+-9]c", "/a.c", Some(&["."])),
            ("/[]a]", "/]", Some(&["]"])),
            ("/[!]]", "/]", None),
            ("/[a-]", "/-", Some(&["-"])),
            ("/[-a]", "/-", Some(&["-"])),
            (r"/[\]]", "/]", Some(&["]"])),
            ("/[&&^~]", "/^", Some(&["^"])),
            ("/[[]", "/[", Some(&["["])),
            ("/[à-ü]", "/é", Some(&["é"])),
            ("/*.{js,css}", "/a.css", Some(&["a", "css"])),
            ("/*.{js,css}", "/a.txt", None),
            ("/{a,b/*}/c", "/a/c", Some(&["a", "-"])),
            ("/{a,b/*}/c", "/b/x/c", Some(&["b/x", "x"])),
            ("/a{,.html}", "/a", Some(&[""])),
            ("/a{,.html}", "/a.html", Some(&[".html"])),
            ("/{a,b{c,d}}", "/bd", Some(&["bd", "d"])),
            ("/{a,b{c,d}}", "/a", Some(&["a", "-"])),
            ("/{a,b{c,d}}", "/bc,d", None),
            ("{/a,/b/**}", "/b/c", Some(&["/b/c", "c"])),
            ("{/a,/b}/?", "/b/c", Some(&["/b", "c"])),
            ("/*/[ab]/{c,d?}", "/x/b/dy", Some(&["x", "b", "dy", "y"])),
            ("/a,b]", "/a,b]", Some(&[])),
            (r"/\*\?\[\{\}\\", r"/*?[{}\", Some(&[])),
            (r"/\[slug\].js", "/[slug].js", Some(&[])),
            (r"\/a", "/a", Some(&[])),
            ("/a|b", "/a", None),
            ("/(a)+", "/(a)+", Some(&[])),
            ("/^$ #", "/^$ #", Some(&[])),
            ("/a?=*", "/ab=c", Some(&["b", "c"])),
            (r"/a?b\=*", "/a?b=c", Some(&["?", "c"])),
            ("/*-[a-f0-9]{8}.*", "/app-3f9ac1d2.js", Some(&["app", "3f9ac1d2", "js"])),
            ("/*-[a-f0-9]{8}.*", "/app-3f9ac1d.js", None),
            ("/*-[a-f0-9]{8}.*", "/app-3f9ac1dx.js", None),
            ("/[0-9]{4,}/", "/123/", None),
            ("/[0-9]{4,}/", "/12345/", Some(&["12345"])),
            ("/[0-9]{1,2}[0-9]", "/123", Some(&["12", "3"])),
            ("/[0-9]{1,2}[0-9]", "/1234", None),
            ("/[!0-9]{2}", "/é-", Some(&["é-"])),
            ("/[!0-9]{2}", "//a", None),
            ("/x[y]{0,1}", "/x", Some(&[""])),
            ("/?{2,3}", "/ab", Some(&["ab"])),
            ("/?{2,3}", "/a", None),
            ("/?{2,3}", "/abcd", None),
            ("/?{255}", "/", None),
            ("/{?{2},[a]{3}b}", "/aaab", Some(&["aaab", "-", "aaa"])),
            // Other braces, and those behind something else, are alternatives.
            ("/[ab]{1,2,3}", "/a3", Some(&["a", "3"])),
            ("/[ab]{1,x}", "/a1", Some(&["a", "1"])),
            ("/[ab]{,2}", "/a", Some(&["a", ""])),
            ("/a{1,2}", "/a2", Some(&["2"])),
            ("/*{1,2}", "/a2", Some(&["a", "2"])),
            (r"/\]{1,2}", "/]2", Some(&["2"])),
            (r"/[a]\{1\}", "/a{1}", Some(&["a"])),
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
    fn case_is_ignored_by_choice() {
        // Pattern, path, whether it matches.
        let rows = [
            ("/Old/*.HTM", "/oLD/a.htm", true),
            ("/old/[a-f]{2}", "/OLD/Ab", true),
            ("/[!a]", "/A", false),
            ("/{en,de}/x", "/DE/X", true),
            (r"/\a", "/A", true),
            ("/grüße", "/GRÜßE", true),
            ("/12-3/a", "/12-3/A", true),
            ("/12-3/a", "/12_3/a", false),
            // Simple case folding: a character is one character.
            ("/strasse", "/straße", false),
        ];
        for (text, path, matches) in rows {
            let glob = Glob::new(text, true).expect(text);
            assert_eq!(glob.is_match(path.as_bytes()), matches, "{text} {path}");
            assert_eq!(
                glob.regex().is_match(path.as_bytes()),
                matches,
                "{text} {path}"
            );
            assert_ne!(glob, self::glob(text));
        }
        assert!(!glob("/a").is_match(b"/A"));
    }

    #[test]
    fn captures_are_counted() {
        let rows = [
            ("/a", 0),
            ("/*/**/?", 3),
            ("/**/**/a", 2),
            ("/{*,**}[*]", 4),
            (r"/\*[?]", 1),
            ("/{a,{b,c}}/[x]{2}?{3}", 4),
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
            ("/[a]{2,1}", "the repetition `{2,1}` is inverted: write `{1,2}`"),
            ("/[a]{0}", "`{0}` repeats a character no times: leave it out"),
            ("/?{0,0}", "`{0,0}` repeats a character no times"),
            ("/?{256}", "`{256}` repeats a character more than 255 times, which no name has; `{8,}` has no upper end"),
            ("/?{1,99999999999999999999}", "more than 255 times"),
            ("/?{3,256}", "more than 255 times"),
            ("/[a]{3", "a `{` without its `}`"),
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

    /// A pattern for `text` alone.
    fn escaped(text: &str) -> String {
        let escaped = |char: char| {
            (!char.is_alphanumeric())
                .then_some('\\')
                .into_iter()
                .chain([char])
        };
        text.chars().flat_map(escaped).collect()
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
            let escaped = escaped(&text);
            let glob = glob(&format!("/{escaped}"));
            prop_assert_eq!(glob.captures(), 0);
            let matched = glob.regex().is_match(format!("/{text}").as_bytes());
            prop_assert!(matched);
            prop_assert_eq!(glob.regex().is_match(format!("/{other}").as_bytes()), text == other);
        }

        #[test]
        fn either_case_of_a_text_matches_where_it_is_ignored(text in "[a-zA-Z/.0-9äÖß-]{0,12}") {
            let glob = Glob::new(&format!("/{}", escaped(&text)), true).unwrap();
            for path in [&text, &text.to_ascii_uppercase(), &text.to_ascii_lowercase()] {
                let path = format!("/{path}");
                prop_assert!(glob.is_match(path.as_bytes()), "{} {}", glob, path);
            }
        }

        /// A hash is one capture, however its characters fall.
        #[test]
        fn a_repetition_is_one_capture(least in 0..4_usize, more in 0..4_usize, name in "[a-f]{0,8}") {
            let text = format!("/[a-e]{{{least},{}}}*", least + more);
            if let Ok(glob) = text.parse::<Glob>() {
                prop_assert_eq!(glob.captures(), 2);
                let path = format!("/{name}");
                let run = name.bytes().take_while(|byte| *byte != b'f').count();
                let found = glob.regex().captures(path.as_bytes()).map(|captures| captures[1].len());
                let expected = (run >= least).then_some(run.min(least + more));
                prop_assert_eq!(found, expected, "{} {}", text, path);
            }
        }

        #[test]
        fn no_text_panics_and_none_comes_to_a_wrong_regex(text in "/?([*?\\[\\]{},!^/a-c0-3\\\\-]|\\PC){0,16}") {
            if let Err(error) = text.parse::<Glob>() {
                prop_assert!(!error.to_string().contains("too large"), "{}: {}", text, error);
            }
        }
    }
}
