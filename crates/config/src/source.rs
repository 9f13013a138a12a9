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
use crate::{Error, Place, Problem, Settings};

/// The most bytes of a file that are read. Thousands of sites need less, and an endless device must
/// not exhaust memory.
const BYTES_MAX: u64 = 16 << 20;

/// How a command line names standard input.
const STANDARD_INPUT: &str = "-";

/// Long enough to type a password that the writer of the pipe asks for.
const PIPE_WAIT: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// The text of a configuration and the file name for reports.
///
/// Keep it to report problems that are found after the checks of this crate, such as a missing
/// root: [`Source::problems`] adds their lines.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// A source with this text, reported as `file`.
    pub fn new(file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            text: text.into(),
        }
    }

    /// Reads `file` to its end. It may be a pipe, as of a shell's `<(...)`; `-` is standard input.
    /// Blocking.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not UTF-8 or is larger than 16 MiB, or if a pipe gets no data
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

    /// Checks the text. A relative root is relative to the directory of the file.
    pub fn settings(&self) -> Result<Settings, Error> {
        let document = Document::parse(&self.text, &self.file)?;
        check::settings(&document)
    }

    /// Problems that were found at some places after the checks, each with its line.
    ///
    /// # Errors
    ///
    /// If the text is not TOML.
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

impl Settings {
    /// Reads and checks `file`. Blocking. A relative root is relative to the directory of `file`.
    pub fn load(file: &Path) -> Result<Self, Error> {
        Source::read(file)?.settings()
    }

    /// Checks `text`, reported as `name`.
    pub fn parse(text: &str, name: &Path) -> Result<Self, Error> {
        Source::new(name, text).settings()
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

/// Opens a pipe once it has data, within `wait`. A plain open waits for a writer without a
/// limit (fifo(7)).
fn open_pipe(file: &Path, wait: Timespec) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = rustix::fs::open(file, flags, Mode::empty())?;
    if poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&wait))? == 0 {
        return Err(io::Error::other("a pipe to which nobody writes"));
    }
    fcntl_setfl(&pipe, OFlags::RDONLY)?;
    Ok(File::from(pipe))
}

/// The problem at the first byte that is not UTF-8.
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
