//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::shown;

/// Why a configuration was refused.
///
/// `Display` gives one line for each problem, without a newline at the end.
/// There is no `source`: the text is complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read: `FILE: REASON`.
    #[error("{}: {reason}", shown(&file.to_string_lossy()))]
    Read {
        /// The file, as it was named.
        file: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The text is refused; at least one problem, in the order of lines.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// One thing that is wrong: `FILE:LINE: KEY: REASON`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The dotted key, for example `limits.header-bytes`. Empty where the text
    /// is not TOML; then the key is left out of the message.
    pub key: String,
    /// What is wrong with it, in one line.
    pub reason: String,
}

/// Why a single value was refused, wherever it came from: a file, a flag or the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.0))]
pub struct ValueError(String);

impl Problem {
    pub(crate) fn new(file: &Path, line: usize, key: String, reason: &str) -> Self {
        // The parser's own messages may span lines; a report is one line each.
        let reason = reason.trim_end().replace('\n', ", ");
        Self {
            file: file.to_owned(),
            line,
            key,
            reason,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", shown(&self.file.to_string_lossy()), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", shown(&self.key))?;
        }
        f.write_str(&shown(&self.reason))
    }
}

impl ValueError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
