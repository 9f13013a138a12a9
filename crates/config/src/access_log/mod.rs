//! `[access-log]` and `[site.access-log]`: where the lines go, what they hold, and for which
//! requests there is one.

mod format;
mod variable;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::ser::{Serialize, Serializer};

use crate::ValueError;

pub use format::{Escape, FormatPart, LogFormat, REQUEST_FIELDS_MAX};
pub use variable::Variable;

/// `[access-log]`, or the log of a site with the defaults from there filled in.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccessLog {
    /// Where the lines go.
    pub path: LogTarget,
    /// What a line holds.
    pub format: LogFormat,
    /// The statuses with a line; none: all of them.
    #[serde(serialize_with = "as_text")]
    pub only: Vec<StatusPattern>,
    /// The part of these requests that has a line, above 0 and at most 1.
    pub sample: f64,
}

/// Where the lines of a log go.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogTarget {
    /// Nowhere: there is no log.
    #[default]
    Off,
    /// Standard output, as the process has it.
    Stdout,
    /// Standard error, as the process has it.
    Stderr,
    /// A file, a named pipe or a device. Whether it can be opened is not checked here.
    File(PathBuf),
}

/// A status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// `4xx`: by the first digit, 1 to 5.
    Class(u16),
    /// One status, 100 to 599.
    Code(u16),
}

impl AccessLog {
    /// A short line for each request on standard error, for people.
    pub fn short() -> Self {
        Self {
            path: LogTarget::Stderr,
            format: LogFormat::short(),
            ..Self::default()
        }
    }

    /// Whether a response with `status` has a line, before the sample is drawn.
    pub fn wants(&self, status: u16) -> bool {
        self.only.is_empty() || self.only.iter().any(|pattern| pattern.matches(status))
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            path: LogTarget::Off,
            format: LogFormat::combined(),
            only: Vec::new(),
            sample: 1.0,
        }
    }
}

impl LogTarget {
    /// The target that is typed as `text`; a relative path is relative to `directory`.
    pub(crate) fn typed(text: &str, directory: &Path) -> Result<Self, ValueError> {
        Ok(match text {
            "" => Self::Off,
            "-" | "/dev/stdout" => Self::Stdout,
            "/dev/stderr" => Self::Stderr,
            _ if text.contains('\0') => {
                return Err(ValueError::new("a path cannot hold a NUL byte"));
            }
            _ if text.starts_with("syslog:") => {
                return Err(ValueError::new(
                    "tidegate does not speak syslog: name a file or a pipe, or \"-\", which \
                     systemd puts into its journal",
                ));
            }
            path => Self::File(directory.join(path)),
        })
    }
}

/// As the configuration writes it; without the bytes of a path that are not UTF-8.
impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => Ok(()),
            Self::Stdout => f.write_str("-"),
            Self::Stderr => f.write_str("/dev/stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for LogTarget {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl StatusPattern {
    fn matches(self, status: u16) -> bool {
        match self {
            Self::Class(class) => status / 100 == class,
            Self::Code(code) => status == code,
        }
    }
}

impl FromStr for StatusPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        if let Some(class @ 1..=5) = class {
            return Ok(Self::Class(class));
        }
        match text.parse() {
            Ok(code @ 100..=599) if text.len() == 3 => Ok(Self::Code(code)),
            _ => Err(ValueError::new(format!(
                "`{text}` is not a status: write one such as \"404\", or a class such as \"4xx\""
            ))),
        }
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{class}xx"),
            Self::Code(code) => write!(f, "{code}"),
        }
    }
}

fn as_text<S: Serializer>(patterns: &[StatusPattern], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(patterns.iter().map(StatusPattern::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_chosen_by_class_or_one_by_one() {
        let log = |only: &[&str]| AccessLog {
            only: only.iter().map(|text| text.parse().unwrap()).collect(),
            ..AccessLog::default()
        };
        assert!(log(&[]).wants(200));
        let some = log(&["4xx", "500"]);
        let wanted = [200, 304, 400, 404, 499, 500, 503].map(|status| some.wants(status));
        assert_eq!(wanted, [false, false, true, true, true, true, false]);
        for text in [
            "", "xx", "6xx", "0xx", "40", "4040", "600", "+40", "4XX", "ok",
        ] {
            assert!(text.parse::<StatusPattern>().is_err(), "{text}");
        }
    }
}
