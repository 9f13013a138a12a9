//! A configuration file: its name and its text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::check;
use crate::document::Document;
use crate::{Error, Problem, Settings};

/// The most bytes of a file that are read: thousands of sites have less, and a device without an end
/// must not take all memory.
const BYTES_MAX: u64 = 16 << 20;

/// The text of a configuration and the name it is reported under.
///
/// Keep it where a problem may show up after the checks of this crate, such as
/// a root that does not exist: [`Source::refuse_sites`] reports it with its line.
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

    /// Reads `file` to its end, which may be a pipe, as a shell makes it for `<(...)`. Blocking.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not UTF-8 or has more than 16 MiB.
    pub fn read(file: &Path) -> Result<Self, Error> {
        match read(file) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(reason) => Err(Error::Read {
                file: file.to_owned(),
                reason,
            }),
        }
    }

    /// Checks the text; a relative root of a site is taken relative to the file's directory.
    pub fn settings(&self) -> Result<Settings, Error> {
        let document = Document::parse(&self.text, &self.file)?;
        check::settings(&document)
    }

    /// The error that gives a reason about `key` of the certificate with this number, from 0, at the
    /// line that sets it.
    #[must_use]
    pub fn refuse_certificate(&self, number: usize, key: &str, reason: &str) -> Error {
        self.refuse(|document| document.problem_of_certificate(number, key, reason))
    }

    /// The error that gives a reason about `key` of the section `[tls]`, at the line that sets it.
    #[must_use]
    pub fn refuse_tls(&self, key: &str, reason: &str) -> Error {
        self.refuse(|document| document.problem_of_tls(key, reason))
    }

    fn refuse(&self, problem: impl FnOnce(&Document<'_>) -> Problem) -> Error {
        match Document::parse(&self.text, &self.file) {
            Ok(document) => Error::Invalid(vec![problem(&document)]),
            Err(error) => error,
        }
    }

    /// The error that gives a reason for each of some sites, by number from 0,
    /// about a key of it: at the line that sets it.
    #[must_use]
    pub fn refuse_sites<'k>(
        &self,
        reasons: impl IntoIterator<Item = (usize, &'k str, String)>,
    ) -> Error {
        match Document::parse(&self.text, &self.file) {
            Ok(document) => {
                let reasons = reasons.into_iter();
                let problems = reasons
                    .map(|(number, key, reason)| document.problem_of_site(number, key, &reason));
                Error::Invalid(problems.collect())
            }
            Err(error) => error,
        }
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut start = File::open(file)?.take(BYTES_MAX + 1);
    start.read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn a_file_without_an_end_is_refused() {
        let error = Source::read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero: larger than 16 MiB");
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
    fn late_problems_of_tls_have_the_lines_of_their_keys() {
        let text = "[tls]\nclient-ca = 'c'\n\n[[tls.certificates]]\ncert = 'a'\n\n\
             [[tls.certificates]]\ncert = 'b'\nkey = 'b'\n[[site]]\nroot = 'x'\n";
        let source = Source::new("t.toml", text);
        let key = |number| source.refuse_certificate(number, "key", "bad").to_string();
        assert_eq!(key(1), "t.toml:9: tls.certificates.key: bad");
        assert_eq!(key(0), "t.toml:4: tls.certificates.key: bad");
        let authority = source.refuse_tls("client-ca", "bad").to_string();
        assert_eq!(authority, "t.toml:2: tls.client-ca: bad");
    }

    #[test]
    fn late_problems_have_the_lines_of_their_keys() {
        let text = "[[site]]\nindex = []\nroot = 'x'\n\n[[site]]\nnames = ['a']\nroot = 'y'\n";
        let source = Source::new("t.toml", text);
        let gone = |number, key| (number, key, "gone".to_owned());
        let rows = [
            (vec![gone(0, "root")], "t.toml:3: site.root: gone"),
            (
                vec![gone(0, "root"), gone(1, "names")],
                "t.toml:3: site.root: gone\nt.toml:6: site.names: gone",
            ),
            (vec![gone(1, "charset")], "t.toml:5: site.charset: gone"),
            (vec![gone(2, "root")], "t.toml:1: site.root: gone"),
        ];
        for (reasons, expected) in rows {
            assert_eq!(source.refuse_sites(reasons).to_string(), expected);
        }
    }
}
