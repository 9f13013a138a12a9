//! A parsed TOML text: where its keys are, and which are known.
//!
//! Checks use the byte ranges that `toml` attaches to values. Only this module turns a range into a
//! line and a dotted key, so no check names its key.

use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_http::Status;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::{Table, Value};

use crate::{
    Access, CertificateFiles, Error, Glob, HeaderRule, Mount, Paths, Place, Problem, Redirect,
    Respond, Settings, mistaken_syntax,
};

/// The most problems of a file that are reported one by one.
const PROBLEMS_MAX: usize = 50;

pub(crate) struct Document<'text> {
    text: &'text str,
    file: &'text Path,
    root: DeTable<'text>,
    /// The offset of each line.
    lines: Vec<usize>,
}

/// A problem by its place in the text.
#[derive(Debug)]
pub(crate) struct Mistake {
    offset: usize,
    /// The dotted key; `None`: the key at `offset`.
    key: Option<String>,
    reason: String,
}

impl Mistake {
    /// A mistake in the key or value at `offset`.
    pub(crate) fn at(offset: usize, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self {
            offset,
            key: None,
            reason,
        }
    }

    /// A mistake about the dotted `key`, which may be missing at `offset`.
    pub(crate) fn of(offset: usize, key: impl Into<String>, reason: &str) -> Self {
        let reason = reason.to_owned();
        let key = Some(key.into());
        Self {
            offset,
            key,
            reason,
        }
    }
}

impl<'text> Document<'text> {
    /// Parses the text; an error if it is not TOML.
    pub(crate) fn parse(text: &'text str, file: &'text Path) -> Result<Self, Error> {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        // The end of the text belongs to its last line.
        let starts = breaks.filter(|start| *start < text.len());
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self {
            text,
            file,
            root: root.into_inner(),
            lines: iter::once(0).chain(starts).collect(),
        };
        // Only the first error: most of those after it follow from it.
        match errors.first() {
            Some(error) => Err(document.syntax_error(error)),
            None => Ok(document),
        }
    }

    /// The root table.
    pub(crate) fn root(&self) -> &DeTable<'text> {
        &self.root
    }

    /// The text at `span`.
    pub(crate) fn text_at(&self, span: &Range<usize>) -> &'text str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The name after the dot, where the header of a section has a dot at `offset`.
    pub(crate) fn section_below(&self, offset: usize) -> Option<&'text str> {
        let rest = self
            .text
            .get(offset..)?
            .trim_start_matches([' ', '\t', '"', '\'']);
        let name = rest.strip_prefix('.')?;
        let end = name.find([']', '.', '=', '\n']);
        Some(name[..end?].trim())
    }

    /// An error if there are mistakes: the first [`PROBLEMS_MAX`] in the order of the text.
    pub(crate) fn refuse_any(&self, mut mistakes: Vec<Mistake>) -> Result<(), Error> {
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by_key(|mistake| mistake.offset);
        let rest = mistakes.split_off(mistakes.len().min(PROBLEMS_MAX));
        let mut problems: Vec<Problem> = mistakes
            .into_iter()
            .map(|mistake| self.place(mistake))
            .collect();
        if let Some(next) = rest.first() {
            let reason = format!("and {} more from here on", rest.len());
            problems.push(self.problem(next.offset, String::new(), &reason));
        }
        Err(Error::Invalid(problems))
    }

    fn place(&self, mistake: Mistake) -> Problem {
        let key = mistake
            .key
            .or_else(|| key_at(&self.root, "", mistake.offset));
        self.problem(mistake.offset, key.unwrap_or_default(), &mistake.reason)
    }

    /// The directory of the file, to which relative paths in it are relative.
    pub(crate) fn directory(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The line of a byte offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// A problem at `place`, or at the table that would hold it.
    pub(crate) fn problem_of(&self, place: &Place, reason: &str) -> Problem {
        self.problem(place.offset_in(&self.root), place.dotted(), reason)
    }

    fn problem(&self, offset: usize, key: String, reason: &str) -> Problem {
        Problem::new(self.file, self.line(offset), key, reason)
    }

    fn syntax_error(&self, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or_default();
        let problem = match error.message() {
            "duplicate key" => self.repeated(&span),
            message => {
                let meant = mistaken_syntax::hint(self.line_at(span.start));
                let meant = meant.map(|meant| format!("; {meant}")).unwrap_or_default();
                self.problem(span.start, String::new(), &format!("{message}{meant}"))
            }
        };
        Error::Invalid(vec![problem])
    }

    /// The problem with the duplicate key at `span`. A header with too few brackets is a common
    /// cause.
    fn repeated(&self, span: &Range<usize>) -> Problem {
        let name = self.text_at(span);
        let line = self.line(span.start);
        let header = self.header(line).map(section);
        let several = header.filter(|name| is_repeated(name));
        let first = self.root.get_key_value(name).map(|(key, _)| key.span());
        match (several, first) {
            (Some(several), Some(first)) if self.section_below(first.end).is_some() => {
                let below = self.section_below(first.end).unwrap_or_default();
                let reason = format!(
                    "[[{several}]] has to come first: move this below the [[{several}]] of line {line}"
                );
                self.problem(first.start, join(several, below), &reason)
            }
            (Some(several), _) => {
                let reason = format!("write [[{several}]] each time, with two brackets");
                self.problem(span.start, several.to_owned(), &reason)
            }
            _ => {
                let reason = format!("duplicate key: {name} is there already");
                self.problem(span.start, String::new(), &reason)
            }
        }
    }

    /// The section header in this line, with its brackets.
    fn header(&self, line: usize) -> Option<&'text str> {
        let start = self.lines.get(line - 1)?;
        let line = self.line_at(*start).trim();
        line.starts_with('[').then_some(line)
    }

    /// The text of the line at a byte offset.
    fn line_at(&self, offset: usize) -> &'text str {
        let start = self.lines.get(self.line(offset) - 1).copied();
        let rest = start.and_then(|start| self.text.get(start..));
        rest.and_then(|rest| rest.lines().next())
            .unwrap_or_default()
    }
}

/// Whether the section with this dotted name is an array of tables.
fn is_repeated(name: &str) -> bool {
    let below = |value: &Value, part: &str| match value {
        Value::Array(tables) => tables.first()?.get(part).cloned(),
        value => value.get(part).cloned(),
    };
    let file = Value::Table(known());
    let section = name
        .split('.')
        .try_fold(file, |value, part| below(&value, part.trim()));
    section.is_some_and(|value| value.get(0).is_some_and(Value::is_table))
}

/// The dotted name in a section header.
fn section(header: &str) -> &str {
    let name = header.trim_start_matches('[');
    name.split(']').next().unwrap_or_default().trim()
}

/// Every known key, as a file that sets each to its default, or to an example where it has none. An
/// array of tables has one element.
pub(crate) fn known() -> Table {
    let mut settings = Settings::for_directory(PathBuf::from("."));
    settings.tls.certificates.push(CertificateFiles {
        cert: PathBuf::new(),
        key: PathBuf::new(),
    });
    for site in &mut settings.sites {
        site.mounts.push(Mount {
            at: "/a".to_owned(),
            root: PathBuf::new(),
        });
        site.headers.push(HeaderRule {
            pattern: any_path(),
            ignore_case: false,
            cache: None,
            set: Vec::new(),
        });
        site.access.push(Access {
            paths: Paths {
                pattern: any_path(),
                except: Vec::new(),
                ignore_case: false,
            },
            allow: Vec::new(),
            deny: Vec::new(),
        });
        site.respond.push(Respond {
            pattern: any_path(),
            except: Vec::new(),
            ignore_case: false,
            status: Status::SERVICE_UNAVAILABLE,
            retry_after: Some(Duration::ZERO),
            page: None,
        });
        site.redirects.push(Redirect {
            from: any_path(),
            ignore_case: false,
            to: "/".to_owned(),
            status: Status::MOVED_PERMANENTLY,
        });
    }
    // See `Settings::to_toml`.
    Table::try_from(settings).expect("settings are plain tables")
}

fn any_path() -> Glob {
    "/**".parse().expect("a pattern")
}

/// The dotted names of all known keys and tables.
pub(crate) fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    collect_keys(&known(), "", &mut keys);
    keys
}

fn collect_keys(table: &Table, path: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let dotted = join(path, key);
        let below = match value {
            Value::Table(table) => Some(table),
            Value::Array(values) => values.first().and_then(Value::as_table),
            _ => None,
        };
        keys.push(dotted.clone());
        if let Some(table) = below {
            collect_keys(table, &dotted, keys);
        }
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// The innermost dotted key whose name or value is at `offset`.
fn key_at(table: &DeTable<'_>, path: &str, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let dotted = join(path, key.get_ref());
        key_in(value, &dotted, offset).or_else(|| key.span().contains(&offset).then_some(dotted))
    })
}

fn key_in(value: &Spanned<DeValue<'_>>, path: &str, offset: usize) -> Option<String> {
    let below = match value.get_ref() {
        DeValue::Table(table) => key_at(table, path, offset),
        DeValue::Array(values) => values.iter().find_map(|value| key_in(value, path, offset)),
        _ => None,
    };
    below.or_else(|| value.span().contains(&offset).then(|| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped file that documents every key.
    const DOCUMENTED: &str = include_str!("../../../config/tidegate.toml");

    /// That file with its examples, which stand behind a `#` without a space, put in effect.
    fn with_examples() -> String {
        let lines = DOCUMENTED.lines().map(|line| match line.strip_prefix('#') {
            Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_names_every_known_key() {
        let file: Table = with_examples().parse().unwrap();
        let mut named = Vec::new();
        collect_keys(&file, "", &mut named);
        let any = ["site.headers.set.", "site.error-pages.", "site.mime-types."];
        named.retain(|key| !any.iter().any(|table| key.starts_with(table)));
        named.sort_unstable();
        let mut known = known_keys();
        known.sort_unstable();
        assert_eq!(named, known);
    }

    #[test]
    fn the_examples_of_the_shipped_file_are_right() {
        let settings = Settings::parse(&with_examples(), Path::new("t.toml"));
        let site = settings.unwrap().sites.remove(0);
        let counts = [
            site.mounts.len(),
            site.headers.len(),
            site.access.len(),
            site.respond.len(),
            site.redirects.len(),
        ];
        assert_eq!(counts, [1; 5]);
    }

    #[test]
    fn the_shipped_file_explains_every_key() {
        let text = with_examples();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let is_key = line.contains(" = ") && !line.starts_with('#');
            assert!(!is_key || lines[at - 1].starts_with("# "), "{line}");
        }
    }

    #[test]
    fn the_innermost_key_is_found_at_every_offset_of_its_value() {
        let text =
            "[limits]\nheaders = 50\n[[site]]\nindex = ['a', 'b']\nmime-types = { x = 'y/z' }\n";
        let document = Document::parse(text, Path::new("t")).unwrap();
        let rows = [
            ("50", "limits.headers"),
            ("'a'", "site.index"),
            ("'b'", "site.index"),
            ("'y/z'", "site.mime-types.x"),
            ("mime-types", "site.mime-types"),
        ];
        for (needle, key) in rows {
            let start = text.find(needle).unwrap();
            for offset in start..start + needle.len() {
                let found = key_at(&document.root, "", offset);
                assert_eq!(found.as_deref(), Some(key), "{needle} at {offset}");
            }
        }
    }
}
