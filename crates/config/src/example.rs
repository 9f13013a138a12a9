//! Example paths that a pattern matches, to try rules with.

use std::ops::RangeInclusive;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::Glob;

/// The character for a wildcard, where its set has it.
const ANY: char = 'x';

/// How many characters of a set are considered: more than ASCII.
const CHARS_MAX: usize = 256;

/// A path that `glob` matches, with a short text for each wildcard.
///
/// `number` selects one of many. The number of a capture makes that capture as short as it can be,
/// a higher one all of them. Alternatives and characters of a set are taken in turn, by number.
pub(crate) fn path(glob: &Glob, number: usize) -> Vec<u8> {
    let mut parser = ParserBuilder::new().utf8(false).build();
    let regex = parser.parse(glob.regex().as_str());
    let mut example = Example {
        number,
        all_short: number > glob.captures(),
        path: Vec::new(),
    };
    // `Glob` compiled the same text.
    example.add(&regex.expect("it was compiled"), false);
    example.path
}

struct Example {
    number: usize,
    all_short: bool,
    path: Vec<u8>,
}

impl Example {
    fn add(&mut self, part: &Hir, is_short: bool) {
        match part.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.path.extend_from_slice(&literal.0),
            HirKind::Class(class) => self.add_one_of(class),
            HirKind::Repetition(repetition) => self.repeat(repetition, is_short),
            HirKind::Capture(capture) => {
                let is_it = usize::try_from(capture.index) == Ok(self.number);
                self.add(&capture.sub, is_short || is_it || self.all_short);
            }
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.add(part, is_short)),
            HirKind::Alternation(parts) => self.add(&parts[self.number % parts.len()], is_short),
        }
    }

    fn repeat(&mut self, repetition: &Repetition, is_short: bool) {
        let is_optional = repetition.min == 0 && !(is_short || self.all_short);
        for _ in 0..repetition.min + u32::from(is_optional) {
            self.add(&repetition.sub, is_short);
        }
    }

    fn add_one_of(&mut self, class: &Class) {
        let char = match class {
            Class::Unicode(class) => {
                let ranges = class.ranges().iter();
                one_of(ranges.map(|range| range.start()..=range.end()), self.number)
            }
            Class::Bytes(class) => {
                let ranges = class.ranges().iter();
                let ascii = ranges.map(|range| range.start().into()..=range.end().into());
                one_of(ascii, self.number)
            }
        };
        self.path
            .extend(char.map(String::from).unwrap_or_default().bytes());
    }
}

/// `x` if it is in the set, else one of its letters and digits if it has any: the one at `number`,
/// modulo their count.
fn one_of(
    ranges: impl Iterator<Item = RangeInclusive<char>> + Clone,
    number: usize,
) -> Option<char> {
    if ranges.clone().any(|range| range.contains(&ANY)) {
        return Some(ANY);
    }
    let chars = ranges.flatten().take(CHARS_MAX);
    let plain = chars.clone().filter(char::is_ascii_alphanumeric);
    plain
        .cycle()
        .nth(number)
        .or_else(|| chars.cycle().nth(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_are_short_texts() {
        // Pattern, whether case is ignored, paths by number.
        let rows: &[(&str, bool, &[&str])] = &[
            ("/a", false, &["/a"]),
            ("/*/**", false, &["/x/x", "//x", "/x/", "//"]),
            ("/**/a", false, &["/x/a", "//a", "/a"]),
            ("/{en,de}/?", false, &["/en/x", "/de/x", "/en/x"]),
            ("/[!x]-[0-9]{2,}", false, &["/0-00", "/1-11", "/2-22"]),
            ("/[_-]", false, &["/-", "/_"]),
            ("/ab", true, &["/AB", "/ab"]),
        ];
        for (text, ignore_case, paths) in rows {
            let glob = Glob::new(text, *ignore_case).expect(text);
            for (number, expected) in paths.iter().enumerate() {
                let path = String::from_utf8(path(&glob, number)).unwrap();
                assert_eq!(path, *expected, "{text} {number}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_its_examples(
            text in "/([ab/]|/\\*\\*/|\\*|\\?|\\[!?[a-cx0-2]{1,3}\\](\\{[0-9],?\\})?|\\{[ab,*]{0,4}\\}){0,6}",
            ignore_case: bool,
            number in 0..10_usize,
        ) {
            if let Ok(glob) = Glob::new(&text, ignore_case) {
                let path = path(&glob, number);
                prop_assert!(glob.is_match(&path), "{} {}", text, path.escape_ascii());
            }
        }
    }
}
