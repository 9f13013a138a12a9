//! A parsed TOML text: where its keys are, and whether they are known.
//!
//! Checks deal in byte ranges, which `toml` attaches to values; this is the one
//! place that turns a range into a line and a dotted key, so no check names its key.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};
use toml::value::{Table, Value};

use crate::{
    CertificateFiles, Error, Glob, HeaderRule, Mount, Place, Problem, Redirect, Respond, Settings,
    raw,
};

/// How far an unknown key may be from a known one to be taken for a typo of it.
const TYPO_DISTANCE_MAX: usize = 2;
/// What it adds to the distance that the known key is in another table.
const OTHER_TABLE_DISTANCE: usize = 2;

pub(crate) struct Document<'text> {
    text: &'text str,
    file: &'text Path,
    root: DeTable<'text>,
}

impl<'text> Document<'text> {
    /// Refuses what is not TOML, then tables and keys that are not known.
    pub(crate) fn parse(text: &'text str, file: &'text Path) -> Result<Self, Error> {
        let mut document = Self {
            text,
            file,
            root: DeTable::new(),
        };
        match DeTable::parse(text) {
            Ok(root) => document.root = root.into_inner(),
            Err(error) => return Err(document.syntax_error(&error)),
        }
        Error::refuse_any(document.shape_problems())?;
        Ok(document)
    }

    /// The values as typed; refuses the first that has the wrong type.
    pub(crate) fn typed(&self) -> Result<raw::Config, Error> {
        toml::from_str(self.text).map_err(|error: toml::de::Error| {
            let span = error.span().unwrap_or_default();
            Error::Invalid(vec![self.problem_at(&span, error.message())])
        })
    }

    /// The file's own directory, which relative paths in it start from.
    pub(crate) fn directory(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The line of a byte offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = self.text.char_indices().take_while(|(at, _)| *at < offset);
        let line = 1 + before.filter(|(_, char)| *char == '\n').count();
        // The end of the text belongs to its last line.
        line.min(self.text.lines().count().max(1))
    }

    /// A problem with the value or key at `span`.
    pub(crate) fn problem_at(&self, span: &Range<usize>, reason: &str) -> Problem {
        let key = key_at(&self.root, "", span.start).unwrap_or_default();
        self.problem(span.start, key, reason)
    }

    /// A problem at `place`, or at what would hold it.
    pub(crate) fn problem_of(&self, place: &Place, reason: &str) -> Problem {
        self.problem(place.offset_in(&self.root), place.dotted(), reason)
    }

    /// A problem with `key` at `offset`, for keys that are missing there.
    pub(crate) fn problem(&self, offset: usize, key: String, reason: &str) -> Problem {
        Problem::new(self.file, self.line(offset), key, reason)
    }

    /// The first error only: those after it are mostly its echoes.
    fn syntax_error(&self, error: &toml::de::Error) -> Error {
        let offset = error.span().unwrap_or_default().start;
        Error::Invalid(vec![self.problem(offset, String::new(), error.message())])
    }

    fn shape_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let known = known();
        self.compare(&self.root, &known, "", &mut problems);
        problems
    }

    fn compare(&self, table: &DeTable<'_>, known: &Table, path: &str, problems: &mut Vec<Problem>) {
        for (key, value) in table {
            let dotted = join(path, key.get_ref());
            match (value.get_ref(), known.get(key.get_ref().as_ref())) {
                (_, None) => {
                    let reason = unknown(key.get_ref(), path);
                    problems.push(self.problem(key.span().start, dotted, &reason));
                }
                (DeValue::Table(_), Some(Value::Array(tables))) if is_tables(tables) => {
                    let reason = format!("write [[{dotted}]], with two brackets");
                    problems.push(self.problem(key.span().start, dotted, &reason));
                }
                (DeValue::Array(values), Some(Value::Table(_))) if holds_tables(values) => {
                    let reason = format!("there is one: write [{dotted}], with one bracket");
                    problems.push(self.problem(key.span().start, dotted, &reason));
                }
                (value, Some(known)) => self.descend(value, known, &dotted, problems),
            }
        }
    }

    fn descend(&self, value: &DeValue<'_>, known: &Value, path: &str, problems: &mut Vec<Problem>) {
        match (value, known) {
            // A table without keys of its own, such as mime-types, takes any.
            (DeValue::Table(table), Value::Table(known)) if !known.is_empty() => {
                self.compare(table, known, path, problems);
            }
            (DeValue::Array(values), Value::Array(known)) if is_tables(known) => {
                for value in values {
                    self.descend(value.get_ref(), &known[0], path, problems);
                }
            }
            _ => {} // a value; its type is for `raw` to judge
        }
    }
}

/// Every known key, as a file that sets each to its default, or to an example
/// where there is none by default. An array of tables has one element.
fn known() -> Table {
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
        site.respond.push(Respond {
            pattern: any_path(),
            except: Vec::new(),
            ignore_case: false,
            status: 503,
            retry_after: Some(Duration::ZERO),
            page: None,
        });
        site.redirects.push(Redirect {
            from: any_path(),
            ignore_case: false,
            to: "/".to_owned(),
            status: 301,
        });
    }
    // See `Settings::to_toml`.
    Table::try_from(settings).expect("settings are plain tables")
}

fn any_path() -> Glob {
    "/**".parse().expect("a pattern")
}

/// The dotted names of all known keys and tables.
fn known_keys() -> Vec<String> {
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

fn unknown(key: &str, path: &str) -> String {
    let keys = known_keys();
    let nearest = keys.iter().map(|known| (distance(key, path, known), known));
    match nearest.min() {
        Some((0..=TYPO_DISTANCE_MAX, known)) => format!("unknown key; did you mean `{known}`?"),
        Some((_, known)) => format!("unknown key; the nearest known key is `{known}`"),
        None => "unknown key".to_owned(),
    }
}

/// How far `key` in the table `path` is from the dotted key `known`.
fn distance(key: &str, path: &str, known: &str) -> usize {
    let (parent, name) = known.rsplit_once('.').unwrap_or(("", known));
    let elsewhere = if parent == path {
        0
    } else {
        OTHER_TABLE_DISTANCE
    };
    strsim::damerau_levenshtein(key, name) + elsewhere
}

fn is_tables(values: &[Value]) -> bool {
    values.first().is_some_and(Value::is_table)
}

fn holds_tables(values: &DeArray<'_>) -> bool {
    values.iter().any(|value| value.get_ref().is_table())
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// The dotted key whose name or value is at `offset`; the innermost one.
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
            site.respond.len(),
            site.redirects.len(),
        ];
        assert_eq!(counts, [1; 4]);
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
