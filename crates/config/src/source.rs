//! A configuration file: its name and its text.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::check;
use crate::document::Document;
use crate::{Error, Place, Problem, Settings};

/// The most bytes of a file that are read: thousands of sites have less, and a device without an end
/// must not take all memory.
const BYTES_MAX: u64 = 16 << 20;

/// The text of a configuration and the name it is reported under.
///
/// Keep it where a problem may show up after the checks of this crate, such as
/// a root that does not exist: [`Source::problems`] reports it with its line.
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

    /// What was found at some places of a text that [`Source::settings`] takes, each with its line.
    ///
    /// # Errors
    ///
    /// When the text is not TOML, or has unknown keys.
    pub fn problems(
        &self,
        found: impl IntoIterator<Item = (Place, String)>,
    ) -> Result<Vec<Problem>, Error> {
        let document = Document::parse(&self.text, &self.file)?;
        let problems = found
            .into_iter()
            .map(|(place, reason)| document.problem_of(&place, &reason));
        Ok(problems.collect())
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
    #[rustfmt::skip] // a row a line
    fn late_problems_have_the_lines_of_their_keys() {
        let text = "[tls]\nclient-ca = 'c'\n\n[[tls.certificates]]\ncert = 'a'\n\n\
             [[tls.certificates]]\ncert = 'b'\nkey = 'b'\n\n[[site]]\nindex = []\nroot = 'x'\n\n\
             [[site]]\nnames = [\n'a',\n'b',\n]\nroot = 'y'\nerror-pages = {\n404 = '/a',\n500 = '/b',\n}\n";
        let source = Source::new("t.toml", text);
        let certificate = |number| Place::of("tls").key("certificates").item(number).key("key");
        let site = |number| Place::of("site").item(number);
        let rows = [
            (certificate(1), "9: tls.certificates.key"),
            (certificate(0), "4: tls.certificates.key"),
            (Place::of("tls").key("client-ca"), "2: tls.client-ca"),
            (Place::of("tls").key("ktls"), "1: tls.ktls"),
            (site(0).key("root"), "13: site.root"),
            (site(0).key("charset"), "11: site.charset"),
            (site(1).key("root"), "20: site.root"),
            (site(1).key("names").item(1), "18: site.names"),
            (site(1).key("error-pages").key("500"), "23: site.error-pages.500"),
            (site(1).key("error-pages").key("503"), "21: site.error-pages.503"),
            (site(2).key("root"), "11: site.root"),
            (Place::of("listen").item(0).key("tls"), "1: listen.tls"),
        ];
        for (place, expected) in rows {
            let problems = source.problems([(place, "gone".to_owned())]).unwrap();
            let expected = format!("t.toml:{expected}: gone");
            assert_eq!(Error::Invalid(problems).to_string(), expected);
        }
    }
}
