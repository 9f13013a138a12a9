//! A configuration file: its name and its text.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl};

use crate::check;
use crate::document::Document;
use crate::{Error, Problem, Settings};

/// The most bytes of a file that are read: thousands of sites have less, and a device without an end
/// must not take all memory.
const BYTES_MAX: u64 = 16 << 20;

/// How a command line names standard input.
const STANDARD_INPUT: &str = "-";

/// Longer than it takes to type the password that a writer asks for.
const PIPE_WAIT: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

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

    /// Reads `file` to its end, which may be a pipe, as a shell makes it for `<(...)`; `-` is standard
    /// input. Blocking, but for a pipe to which nobody writes.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not UTF-8 or has more than 16 MiB; when nothing is written to a pipe
    /// within a minute.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bytes = read(file).map_err(|reason| Error::Read {
            file: file.to_owned(),
            reason,
        })?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(error) => Err(Error::Invalid(vec![not_utf8(file, &error)])),
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
    /// about its `key`: at the line that sets it.
    #[must_use]
    pub fn refuse_sites(
        &self,
        key: &str,
        reasons: impl IntoIterator<Item = (usize, String)>,
    ) -> Error {
        match Document::parse(&self.text, &self.file) {
            Ok(document) => {
                let reasons = reasons.into_iter();
                let problems =
                    reasons.map(|(number, reason)| document.problem_of_site(number, key, &reason));
                Error::Invalid(problems.collect())
            }
            Err(error) => error,
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    Ok(bytes)
}

fn open(file: &Path) -> io::Result<File> {
    if file == Path::new(STANDARD_INPUT) {
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    }
    let kind = fs::metadata(file)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::other("a directory, not a configuration file"));
    }
    if kind.is_socket() {
        return Err(io::Error::other("a socket, not a configuration file"));
    }
    if kind.is_fifo() {
        return open_pipe(file, PIPE_WAIT);
    }
    File::open(file)
}

/// A pipe that somebody has written to, within `wait`: opening one waits for a writer else, for ever
/// (fifo(7)).
fn open_pipe(file: &Path, wait: Timespec) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = rustix::fs::open(file, flags, Mode::empty())?;
    if poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&wait))? == 0 {
        return Err(io::Error::other("a pipe to which nobody writes"));
    }
    fcntl_setfl(&pipe, OFlags::RDONLY)?;
    Ok(File::from(pipe))
}

/// The problem at the first byte that is none of UTF-8.
fn not_utf8(file: &Path, error: &FromUtf8Error) -> Problem {
    let bytes = error.as_bytes();
    let start = error.utf8_error().valid_up_to();
    let line = bytes[..start].split(|byte| *byte == b'\n').count();
    let reason = format!(
        "not UTF-8 (byte 0x{:02x}): save the file as UTF-8",
        bytes[start]
    );
    Problem::new(file, line, String::new(), &reason)
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
    fn a_file_that_is_not_utf8_is_refused_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let rows: [(&[u8], &str); 3] = [
            (b"[[site]]\n# caf\xe9\n", ":2: not UTF-8 (byte 0xe9): "),
            (b"\xff\xfe[\0", ":1: not UTF-8 (byte 0xff): "),
            (b"a\xc3", ":1: not UTF-8 (byte 0xc3): "),
        ];
        for (text, expected) in rows {
            let file = directory.path().join("latin1.toml");
            fs::write(&file, text).unwrap();
            let error = Source::read(&file).unwrap_err().to_string();
            assert!(error.contains(&format!("latin1.toml{expected}")), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = Source::read(directory.path()).unwrap_err().to_string();
        assert!(
            error.ends_with(": a directory, not a configuration file"),
            "{error}"
        );
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = Source::read(&socket).unwrap_err().to_string();
        assert!(
            error.ends_with("socket: a socket, not a configuration file"),
            "{error}"
        );
    }

    #[test]
    fn a_pipe_is_read_if_somebody_writes_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &file,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        let soon = Timespec {
            tv_sec: 0,
            tv_nsec: 1,
        };
        let error = open_pipe(&file, soon).unwrap_err().to_string();
        assert_eq!(error, "a pipe to which nobody writes");
        let writer = std::thread::spawn({
            let file = file.clone();
            move || fs::write(file, "[[site]]\n")
        });
        assert_eq!(Source::read(&file).unwrap().text, "[[site]]\n");
        writer.join().unwrap().unwrap();
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
        let gone = |number| (number, "gone".to_owned());
        let rows = [
            (vec![gone(0)], "root", "t.toml:3: site.root: gone"),
            (
                vec![gone(0), gone(1)],
                "root",
                "t.toml:3: site.root: gone\nt.toml:7: site.root: gone",
            ),
            (vec![gone(1)], "charset", "t.toml:5: site.charset: gone"),
            (vec![gone(2)], "root", "t.toml:1: site.root: gone"),
        ];
        for (reasons, key, expected) in rows {
            assert_eq!(source.refuse_sites(key, reasons).to_string(), expected);
        }
    }
}
