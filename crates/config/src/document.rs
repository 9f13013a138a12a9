//! A parsed TOML text: where its keys are, and which are known.
//!
//! Checks use the byte ranges that `toml` attaches to values. Only this module turns a range into a
//! line and a dotted key, so no check names its key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_http::Status;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::{Table, Value};

use crate::environment::{self, Expanded, Variables};
use crate::text::Text;
use crate::{
    Access, Auth, CacheRule, CertificateFiles, Credentials, Error, Glob, HeaderRule, Mount, Origin,
    OriginKind, OriginUrl, Pace, Paths, Place, Problem, Redirect, Respond, S3Style, Settings,
    Signed, Ttl, mistaken_syntax, parts,
};

/// The most problems of a file that are reported one by one.
const PROBLEMS_MAX: usize = 50;

pub(crate) struct Document<'text> {
    text: &'text Text,
    /// The root table of each file.
    roots: Vec<DeTable<'text>>,
    /// The values with variables of the environment, by their offset.
    expanded: BTreeMap<usize, Expanded>,
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
    /// Parses each file; an error if one is not TOML.
    pub(crate) fn parse(text: &'text Text) -> Result<Self, Error> {
        let roots = Vec::with_capacity(text.count());
        let mut document = Self {
            text,
            roots,
            expanded: BTreeMap::new(),
        };
        for number in 0..text.count() {
            let (start, part) = text.part(number);
            let (root, errors) = DeTable::parse_recoverable(part);
            let root = parts::moved(root.into_inner(), start);
            document.roots.push(root);
            // Only the first error: most of those after it follow from it.
            if let Some(error) = errors.first() {
                return Err(document.syntax_error(error, start));
            }
        }
        Ok(document)
    }

    /// Expands the variables in all values, if the first file asks for it.
    pub(crate) fn expand(&mut self, variables: Variables<'_>) -> Result<(), Error> {
        if !self.roots.first().is_some_and(environment::is_on) {
            return Ok(());
        }
        let mut mistakes = Vec::new();
        let mut refuse = |offset, reason: &str| mistakes.push(Mistake::at(offset, reason));
        for root in &mut self.roots {
            environment::expand_all(root, variables, &mut self.expanded, &mut refuse);
        }
        self.refuse_any(mistakes)
    }

    /// The root table of each file, the including ones first.
    pub(crate) fn roots(&self) -> &[DeTable<'text>] {
        &self.roots
    }

    /// The text at `span`.
    pub(crate) fn text_at(&self, span: &Range<usize>) -> &'text str {
        self.text.slice(span.clone())
    }

    /// The name after the dot, where the header of a section has a dot at `offset`.
    pub(crate) fn section_below(&self, offset: usize) -> Option<&'text str> {
        let rest = self.text.rest(offset);
        let rest = rest.trim_start_matches([' ', '\t', '"', '\'']);
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
        let mut roots = self.roots.iter();
        let key = mistake
            .key
            .or_else(|| roots.find_map(|root| key_at(root, "", mistake.offset)));
        let reason = match self.expanded.get(&mistake.offset) {
            Some(expanded) => expanded.hide(&mistake.reason),
            None => mistake.reason,
        };
        self.problem(mistake.offset, key.unwrap_or_default(), &reason)
    }

    /// The directory of the file at `offset`, to which relative paths in it are relative.
    pub(crate) fn directory(&self, offset: usize) -> PathBuf {
        self.text.directory(offset)
    }

    /// The line of a byte offset for a message, counted from 1, with its file if there are several.
    pub(crate) fn line(&self, offset: usize) -> String {
        self.text.named_line(offset)
    }

    /// A problem at each place, or at the table that would hold it.
    pub(crate) fn problems(
        &self,
        found: impl IntoIterator<Item = (Place, String)>,
    ) -> Vec<Problem> {
        let mut all = DeTable::new();
        for root in &self.roots {
            parts::join(&mut all, root.clone(), &mut |_, _| ());
        }
        let found = found.into_iter();
        found
            .map(|(place, reason)| {
                let offset = place.offset_in(&all);
                let reason = self.without_values(offset, reason);
                self.problem(offset, place.dotted(), &reason)
            })
            .collect()
    }

    /// A reason for a problem at `offset` without the values of variables.
    fn without_values(&self, offset: usize, mut reason: String) -> String {
        let line = |offset| (self.text.file(offset), self.text.line(offset));
        for (start, expanded) in &self.expanded {
            if expanded.stands_in(&reason, line(*start) == line(offset)) {
                reason = expanded.hide(&reason);
            }
        }
        reason
    }

    fn problem(&self, offset: usize, key: String, reason: &str) -> Problem {
        Problem::new(self.text.file(offset), self.text.line(offset), key, reason)
    }

    /// The error in the last of the roots, whose text begins at `start`.
    fn syntax_error(&self, error: &toml::de::Error, start: usize) -> Error {
        let span = error.span().unwrap_or_default();
        let span = start + span.start..start + span.end;
        let problem = match error.message() {
            "duplicate key" => self.repeated(&span),
            message => {
                let meant = mistaken_syntax::hint(self.text.line_at(span.start));
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
        let line = self.text.line(span.start);
        let header = self.header(span.start).map(section);
        let several = header.filter(|name| is_repeated(name));
        let root = self.roots.last();
        let first = root.and_then(|root| Some(root.get_key_value(name)?.0.span()));
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

    /// The section header in the line at `offset`, with its brackets.
    fn header(&self, offset: usize) -> Option<&'text str> {
        let line = self.text.line_at(offset).trim();
        line.starts_with('[').then_some(line)
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
        site.origins = vec![any_store(), any_origin()];
        site.cache_rules.push(CacheRule {
            paths: any_paths(),
            ttl: Some(Ttl::Off),
            stale_while_revalidate: Some(Duration::ZERO),
            stale_if_error: Some(Duration::ZERO),
        });
        site.headers.push(HeaderRule {
            pattern: any_path(),
            ignore_case: false,
            cache: None,
            set: Vec::new(),
        });
        site.access.push(Access {
            paths: any_paths(),
            allow: Vec::new(),
            deny: Vec::new(),
        });
        site.auth.push(Auth {
            paths: any_paths(),
            realm: String::new(),
            users: PathBuf::new(),
        });
        site.signed.push(Signed {
            paths: any_paths(),
            keys: Vec::new(),
        });
        site.pace.push(Pace {
            paths: any_paths(),
            rate: 1 << 20,
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
    let mut table = Table::try_from(settings).expect("settings are plain tables");
    join_origins(&mut table);
    table.insert("include".to_owned(), Value::Array(Vec::new()));
    table.insert(environment::SWITCH.to_owned(), Value::Boolean(false));
    table
}

/// Makes one origin of all of a site, with the keys of each kind.
fn join_origins(table: &mut Table) {
    let sites = table.get_mut("site").and_then(Value::as_array_mut);
    for site in sites.into_iter().flatten() {
        let origins = site.get_mut("origin").and_then(Value::as_array_mut);
        if let Some(origins) = origins {
            let keys = origins.drain(..).filter_map(|origin| match origin {
                Value::Table(keys) => Some(keys),
                _ => None,
            });
            let all = keys.flatten().collect();
            origins.push(Value::Table(all));
        }
    }
}

fn any_store() -> Origin {
    Origin {
        kind: OriginKind::S3 {
            region: String::new(),
            style: S3Style::Path,
            profile: None,
            credentials: Credentials::Auto,
        },
        ..any_origin()
    }
}

fn any_origin() -> Origin {
    Origin {
        kind: OriginKind::Http { host: None },
        url: OriginUrl {
            is_https: true,
            host: String::new(),
            port: 443,
            path: String::new(),
        },
        ca: None,
        connect_timeout: Duration::ZERO,
        first_byte_timeout: Duration::ZERO,
        stall_timeout: Duration::ZERO,
        connections: 1,
        negative: Duration::ZERO,
        health: None,
    }
}

fn any_paths() -> Paths {
    Paths {
        pattern: any_path(),
        except: Vec::new(),
        ignore_case: false,
    }
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
            Value::Table(table) => vec![table],
            Value::Array(values) => values.iter().filter_map(Value::as_table).collect(),
            _ => Vec::new(),
        };
        keys.push(dotted.clone());
        for table in below {
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
    use std::path::Path;

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
        // Origins of both kinds have some keys in common.
        named.dedup();
        let mut known = known_keys();
        known.sort_unstable();
        assert_eq!(named, known);
    }

    #[test]
    fn the_examples_of_the_shipped_file_are_right() {
        let settings = Settings::parse(&with_examples(), Path::new("t.toml"));
        let site = settings.unwrap().sites.remove(0);
        let counts = [
            site.origins.len(),
            site.cache_rules.len(),
            site.mounts.len(),
            site.headers.len(),
            site.access.len(),
            site.auth.len(),
            site.signed.len(),
            site.pace.len(),
            site.respond.len(),
            site.redirects.len(),
        ];
        assert_eq!(counts, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
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
        let source = Text::new(PathBuf::from("t"), text);
        let document = Document::parse(&source).unwrap();
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
                let found = key_at(&document.roots[0], "", offset);
                assert_eq!(found.as_deref(), Some(key), "{needle} at {offset}");
            }
        }
    }
}
