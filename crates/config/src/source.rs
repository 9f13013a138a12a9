//! A configuration file: its name and its text.

use std::fs;
use std::path::{Path, PathBuf};

use crate::check;
use crate::document::Document;
use crate::{Error, Settings};

/// The text of a configuration and the name it is reported under.
///
/// Keep it where a problem may show up after the checks of this crate, such as
/// a root that does not exist: [`Source::refuse`] reports it with its line.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// Takes `text` as if it had been read from `file`.
    pub fn new(file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            text: text.into(),
        }
    }

    /// Reads `file` to its end. Blocking.
    pub fn read(file: &Path) -> Result<Self, Error> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(reason) => Err(Error::Read {
                file: file.to_owned(),
                reason,
            }),
        }
    }

    /// Checks the text; a relative `site.root` is taken relative to the file's directory.
    pub fn settings(&self) -> Result<Settings, Error> {
        let document = Document::parse(&self.text, &self.file)?;
        check::settings(&document)
    }

    /// The error that says `reason` about the dotted `key`, at the line where
    /// the file sets it, or at line 1 if it does not.
    #[must_use]
    pub fn refuse(&self, key: &str, reason: &str) -> Error {
        match Document::parse(&self.text, &self.file) {
            Ok(document) => Error::Invalid(vec![document.problem_with(key, reason)]),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("none.toml");
        let error = Source::read(&file).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: No such file or directory (os error 2)", file.display())
        );
    }

    #[test]
    fn a_file_that_is_not_utf8_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("latin1.toml");
        fs::write(&file, b"# caf\xe9\n").unwrap();
        let error = Source::read(&file).unwrap_err().to_string();
        assert!(error.ends_with("latin1.toml: stream did not contain valid UTF-8"));
    }

    #[test]
    fn a_late_problem_has_the_line_of_its_key() {
        let source = Source::new("t.toml", "[server]\n\n[[site]]\nindex = []\nroot = 'x'\n");
        let error = source.refuse("site.root", "no such directory");
        assert_eq!(error.to_string(), "t.toml:5: site.root: no such directory");
        let error = source.refuse("server.cores", "not here");
        assert_eq!(error.to_string(), "t.toml:1: server.cores: not here");
    }
}
