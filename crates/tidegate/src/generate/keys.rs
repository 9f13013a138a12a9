//! The manual page of the configuration file, from the comments of the one with every key.

use clap_mangen::roff::{Roff, bold, roman};

/// The file with every key.
const DOCUMENTED: &str = include_str!("../../../../config/tidegate.toml");

const NAME: &str = "tidegate.toml - configuration file of tidegate";

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// Without the # and the space after it.
    Comment(&'a str),
    /// `[section]`, also of an example.
    Section(&'a str),
    /// `key = value`, also of an example.
    Key(&'a str),
    Blank,
}

/// tidegate.toml(5); `date` is YYYY-MM-DD.
pub(super) fn page(date: &str) -> String {
    let mut roff = Roff::new();
    let version = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["tidegate.toml", "5", date, version, "tidegate"]);
    roff.control("SH", ["NAME"]).text([roman(NAME)]);
    roff.control("SH", ["DESCRIPTION"]);
    body(&mut roff, DOCUMENTED);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("tidegate(1), tidegate-check(1), tidegate-config(1)")]);
    roff.render()
}

/// The sections and keys of `file`, each with the comment above it.
fn body(roff: &mut Roff, file: &str) {
    let mut comment = Vec::new();
    for line in file.lines().map(Line::of) {
        match line {
            Line::Comment(text) => {
                comment.push(text);
                continue;
            }
            Line::Section(name) => drop(roff.control("SH", [name])),
            Line::Key(key) => drop(roff.control("TP", []).text([bold(key)])),
            Line::Blank => {}
        }
        prose(roff, &comment);
        comment.clear();
    }
}

/// Lines of a comment; those that are indented stay as they stand.
fn prose(roff: &mut Roff, comment: &[&str]) {
    for line in comment {
        if line.is_empty() {
            roff.control("sp", []);
        } else if let Some(code) = line.strip_prefix("  ") {
            roff.control("nf", []).text([roman(code)]).control("fi", []);
        } else {
            roff.text([roman(*line)]);
        }
    }
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        if line == "#" {
            return Self::Comment("");
        }
        if let Some(comment) = line.strip_prefix("# ") {
            return Self::Comment(comment);
        }
        match line.strip_prefix('#').unwrap_or(line) {
            "" => Self::Blank,
            section if section.starts_with('[') => Self::Section(section),
            key => Self::Key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_and_key_has_its_comment() {
        let file = "# All of it.\n#\n#   run a\n\n# Where.\n[one]\n# How long.\n# Default 1.\n\
                    time = \"1s\"\n\n#[[two]]\n# .well-known too.\n#at = '/'\n";
        let mut roff = Roff::new();
        body(&mut roff, file);
        assert_eq!(
            roff.to_roff(),
            "All of it.\n.sp\n.nf\nrun a\n.fi\n.SH [one]\nWhere.\n.TP\n\\fBtime = \"1s\"\\fR\n\
             How long.\nDefault 1.\n.SH [[two]]\n.TP\n\\fBat = '/'\\fR\n\
             \\&.well\\-known too.\n"
        );
    }
}
