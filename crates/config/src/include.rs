//! `include`: reads the files that a file names, and those that they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use toml::de::{DeTable, DeValue};

use crate::environment::{self, Variables};
use crate::text::Text;
use crate::{Error, Problem};

/// How deep files may include others.
const DEPTH_MAX: usize = 8;
/// The most files.
const FILES_MAX: usize = 10_000;
/// The most bytes of all files.
const BYTES_MAX: usize = 16 << 20;

/// As a shell matches: `*` stands for no slash and no leading dot.
const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Adds to `text` the files that its first one includes, each read by `read`. A file is read once,
/// even if several patterns match it, or its own. Text that is not TOML includes nothing. Blocking.
///
/// # Errors
///
/// If a file cannot be read, or is named and not there; if there are too many, or they are nested
/// too deep.
pub(crate) fn follow(
    text: &mut Text,
    variables: Variables<'_>,
    read: fn(&Path) -> Result<String, Error>,
) -> Result<(), Error> {
    let first = fs::canonicalize(text.file(0));
    let mut files = Files {
        seen: first.into_iter().collect(),
        variables: environment::is_used(text).then_some(variables),
        text,
        read,
    };
    files.follow(0, 0)
}

struct Files<'t> {
    text: &'t mut Text,
    /// Those of the environment, if patterns may name them.
    variables: Option<Variables<'t>>,
    read: fn(&Path) -> Result<String, Error>,
    seen: BTreeSet<PathBuf>,
}

impl Files<'_> {
    /// Adds what file `number`, which is nested `depth` files deep, includes.
    fn follow(&mut self, number: usize, depth: usize) -> Result<(), Error> {
        for (offset, pattern) in patterns(self.text, number) {
            let files = self
                .matches(offset, &pattern)
                .map_err(|reason| self.refuse(offset, &reason))?;
            for file in files {
                self.add(file, offset, depth)?;
            }
        }
        Ok(())
    }

    /// The files that the pattern at `offset` matches, in the order of their names.
    fn matches(&self, offset: usize, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let expanded = match self.variables {
            Some(variables) => environment::expand(pattern, variables)?,
            None => None,
        };
        let pattern = expanded.as_ref().map_or(pattern, |expanded| &expanded.text);
        matches(&self.text.directory(offset), pattern)
    }

    /// Adds `file`, which the item at `offset` includes, and what it includes itself.
    fn add(&mut self, file: PathBuf, offset: usize, depth: usize) -> Result<(), Error> {
        let identity = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
        if !self.seen.insert(identity) {
            return Ok(());
        }
        let text = (self.read)(&file).map_err(|error| match error {
            Error::Read { file, reason } => {
                self.refuse(offset, &format!("{}: {reason}", file.display()))
            }
            invalid @ Error::Invalid(_) => invalid,
        })?;
        if let Some(reason) = self.too_much(&text, depth) {
            return Err(self.refuse(offset, &format!("{}: {reason}", file.display())));
        }
        let number = self.text.push(file, &text);
        self.follow(number, depth + 1)
    }

    fn too_much(&self, text: &str, depth: usize) -> Option<String> {
        if depth >= DEPTH_MAX {
            return Some(format!("nested more than {DEPTH_MAX} files deep"));
        }
        if self.text.count() >= FILES_MAX {
            return Some(format!("more than {FILES_MAX} files"));
        }
        let is_large = self.text.len() + text.len() > BYTES_MAX;
        is_large.then(|| "with it, all files are larger than 16 MiB".to_owned())
    }

    fn refuse(&self, offset: usize, reason: &str) -> Error {
        let (file, line) = (self.text.file(offset), self.text.line(offset));
        Error::Invalid(vec![Problem::new(file, line, "include".to_owned(), reason)])
    }
}

/// What file `number` includes, each with its offset. Those of a wrong type are refused later.
fn patterns(text: &Text, number: usize) -> Vec<(usize, String)> {
    let (start, part) = text.part(number);
    let Ok(root) = DeTable::parse(part) else {
        return Vec::new();
    };
    let include = root.get_ref().get("include");
    let items = include.and_then(|value| value.get_ref().as_array());
    let items = items.into_iter().flat_map(|items| items.iter());
    let patterns = items.filter_map(|item| match item.get_ref() {
        DeValue::String(pattern) => Some((start + item.span().start, pattern.to_string())),
        _ => None,
    });
    patterns.collect()
}

/// The files that `pattern` matches from `directory` on, in the order of their names.
fn matches(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![directory.join(pattern)]);
    }
    let Some(directory) = directory.to_str() else {
        return Err(format!(
            "{}: not UTF-8: name each file",
            directory.display()
        ));
    };
    let from = Path::new(&Pattern::escape(directory)).join(pattern);
    let from = from.to_string_lossy();
    let files = glob::glob_with(&from, AS_A_SHELL);
    let files = files.map_err(|error| format!("`{pattern}` is not a pattern: {}", error.msg))?;
    let files = files
        .take(FILES_MAX + 1)
        .map(|file| file.map_err(|error| format!("{}: {}", error.path().display(), error.error())));
    files.collect()
}
