//! Makes untrusted text safe to print on a terminal or in a log, in one line.

use std::fmt::Write as _;

/// The most characters that are printed of one text.
const CHARS_MAX: usize = 500;
/// How many of them are kept at either end of a longer text: a message begins with its subject and
/// ends with the remedy.
const CHARS_AT_END: usize = 220;

/// Characters that are invisible or change how others are displayed: direction marks, joiners,
/// fillers, variation selectors and tags (Unicode: `Bidi_Control`, `Default_Ignorable_Code_Point`).
const UNSEEN: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Escapes control and invisible characters of `text` as `\u{1b}`. If the result is longer than 500
/// characters, its middle is replaced by a note of the text's length.
///
/// Idempotent: its own output is unchanged.
#[must_use]
pub fn shown(text: &str) -> String {
    let escaped = visible(text);
    let length = escaped.chars().count();
    if length <= CHARS_MAX {
        return escaped;
    }
    let start: String = escaped.chars().take(CHARS_AT_END).collect();
    let end: String = escaped.chars().skip(length - CHARS_AT_END).collect();
    format!(
        "{start} [... {} characters in all ...] {end}",
        text.chars().count()
    )
}

/// Escapes control and invisible characters of `text` as [`shown`] does, at any length.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        if is_plain(char) {
            escaped.push(char);
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "{}", escape(char));
        }
    }
    escaped
}

fn escape(char: char) -> String {
    match char {
        '\n' | '\r' | '\t' => char.escape_default().to_string(),
        char => char.escape_unicode().to_string(),
    }
}

fn is_plain(char: char) -> bool {
    let is_other_space = char.is_whitespace() && char != ' ';
    let is_unseen = UNSEEN
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&char));
    !(char.is_control() || is_other_space || is_unseen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_escaped() {
        let rows = [
            ("", ""),
            (
                "plain, `caf\u{e9}`, \\, \u{4e2d}\u{6587}",
                "plain, `caf\u{e9}`, \\, \u{4e2d}\u{6587}",
            ),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{0}\u{7f}\u{9b}", "\\u{0}\\u{7f}\\u{9b}"),
            ("a\u{202e}b", "a\\u{202e}b"),
            (
                "\u{200b}\u{200d}\u{feff}\u{ad}",
                "\\u{200b}\\u{200d}\\u{feff}\\u{ad}",
            ),
            ("a\u{a0}b\u{3000}", "a\\u{a0}b\\u{3000}"),
            ("\u{e0041}\u{2028}", "\\u{e0041}\\u{2028}"),
        ];
        for (text, expected) in rows {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn every_mark_of_direction_is_escaped() {
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        let marks = marks
            .chain('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}');
        for mark in marks {
            assert_eq!(shown(&mark.to_string()), mark.escape_unicode().to_string());
        }
    }

    #[test]
    fn a_long_text_loses_its_middle_once() {
        let whole = "x".repeat(CHARS_MAX);
        assert_eq!(shown(&whole), whole);
        let long = format!("`{}` is not a port", "\u{1b}".repeat(10_000));
        let cut = shown(&long);
        assert!(cut.starts_with("`\\u{1b}\\u{1b}"), "{cut}");
        assert!(cut.ends_with("\\u{1b}` is not a port"), "{cut}");
        assert!(cut.contains(" [... 10016 characters in all ...] "), "{cut}");
        let long = "y".repeat(1 << 20);
        assert!(shown(&long).len() <= CHARS_MAX);
        assert_eq!(shown(&shown(&long)), shown(&long));
    }
}
