//! Problems of a configuration, with their places.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::shown;

/// Why a configuration was refused.
///
/// `Display` writes one line for each problem, without a final newline. It includes the cause, so
/// there is no `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read: `FILE: REASON`.
    #[error("{}: {reason}", shown(&file.to_string_lossy()))]
    Read {
        /// The file, as given by the caller.
        file: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// The text is refused. At least one problem, in the order of lines.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// One problem: `FILE:LINE: KEY: REASON`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as given by the caller.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The dotted key, for example `limits.header-bytes`. Empty if the text is not TOML; the
    /// message has no key then.
    pub key: String,
    /// What is wrong, in one line.
    pub reason: String,
}

/// Why a single value of a file, a flag or the environment was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.0))]
pub struct ValueError(String);

impl Problem {
    pub(crate) fn new(file: &Path, line: usize, key: String, reason: &str) -> Self {
        // The TOML parser's messages may have several lines; a report has one.
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
