//! A configuration file: its name and its text.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl};

use crate::document::Document;
use crate::environment::Variables;
use crate::text::Text;
use crate::{Error, Place, Problem, Settings, check, include};

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

/// The text of a configuration, with that of the files that it includes, and their names for reports.
///
/// Keep it to report problems that are found after the checks of this crate, such as a missing
/// root: [`Source::problems`] adds their lines.
#[derive(Clone, Debug)]
pub struct Source {
    text: Text,
}

impl Source {
    /// A source with this text, reported as `file`. Files that it includes are left out.
    pub fn new(file: impl Into<PathBuf>, text: &str) -> Self {
        Self {
            text: Text::new(file.into(), text),
        }
    }

    /// Reads `file` to its end, and the files that it includes. Each may be a pipe, as of a shell's
    /// `<(...)`; `-` is standard input. Blocking.
    ///
    /// Only this reads files, so it may be repeated to see whether they changed.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or is not UTF-8; if all are larger than 16 MiB; if a pipe gets no
    /// data within a minute.
    pub fn read(file: &Path) -> Result<Self, Error> {
        Self::read_with(file, &|name| env::var_os(name))
    }

    /// As [`Source::read`], with these variables of the environment.
    fn read_with(file: &Path, variables: Variables<'_>) -> Result<Self, Error> {
        let mut source = Self::new(file, &read_text(file)?);
        include::follow(&mut source.text, variables, read_text)?;
        Ok(source)
    }

    /// The files that were read: the one that was named, then those that are included.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.text.files()
    }

    /// Checks the text, with variables of the environment of this process where it asks for them. A
    /// relative path is relative to the directory of the file that it is in.
    pub fn settings(&self) -> Result<Settings, Error> {
        self.settings_with(&|name| env::var_os(name))
    }

    /// As [`Source::settings`], with these variables of the environment.
    fn settings_with(&self, variables: Variables<'_>) -> Result<Settings, Error> {
        let mut document = Document::parse(&self.text)?;
        document.expand(variables)?;
        check::settings(&document)
    }

    /// Problems that were found at some places after the checks, each with its line.
    ///
    /// # Errors
    ///
    /// If the text is not TOML, or variables are missing by now.
    pub fn problems(
        &self,
        found: impl IntoIterator<Item = (Place, String)>,
    ) -> Result<Vec<Problem>, Error> {
        self.problems_with(found, &|name| env::var_os(name))
    }

    /// As [`Source::problems`], with these variables of the environment.
    fn problems_with(
        &self,
        found: impl IntoIterator<Item = (Place, String)>,
        variables: Variables<'_>,
    ) -> Result<Vec<Problem>, Error> {
        let mut document = Document::parse(&self.text)?;
        document.expand(variables)?;
        Ok(document.problems(found))
    }
}

impl Settings {
    /// Reads and checks `file`, as [`Source::read`] and [`Source::settings`] do. Blocking.
    pub fn load(file: &Path) -> Result<Self, Error> {
        Source::read(file)?.settings()
    }

    /// Checks `text`, reported as `name`.
    pub fn parse(text: &str, name: &Path) -> Result<Self, Error> {
        Source::new(name, text).settings()
    }
}

fn read_text(file: &Path) -> Result<String, Error> {
    let bytes = read(file).map_err(|reason| Error::Read {
        file: file.to_owned(),
        reason,
    })?;
    String::from_utf8(bytes).map_err(|error| Error::Invalid(vec![not_utf8(file, &error)]))
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

    /// A directory with these files.
    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        directory
    }

    /// The settings of `main.toml` in a directory with these files; errors with names in it.
    fn loaded(files: &[(&str, &str)]) -> Result<Settings, String> {
        let directory = directory(files);
        let variables = |name: &str| match name {
            "WWW" => Some("/srv/www".into()),
            "TIME" => Some("7s".into()),
            "SITES" => Some("sites".into()),
            "SECRET" => Some("hunter22".into()),
            _ => None,
        };
        let file = directory.path().join("main.toml");
        let source = Source::read_with(&file, &variables);
        let settings = source.and_then(|source| source.settings_with(&variables));
        let place = format!("{}/", directory.path().display());
        settings.map_err(|error| error.to_string().replace(&place, ""))
    }

    const SITE: &str = "[[site]]\nroot = '.'\n";

    #[test]
    fn sections_of_included_files_are_appended() {
        let settings = loaded(&[
            (
                "main.toml",
                "include = ['sites/*.toml', 'limits', 'none/*']\n[timeouts]\nheader = '1s'\n[[listen]]\naddress = ':1'\n",
            ),
            ("sites/.hidden.toml", "["),
            ("sites/c.toml~", "["),
            (
                "sites/b.toml",
                "[[site]]\nnames = ['b']\nroot = 'b'\n[[listen]]\naddress = ':2'\n",
            ),
            (
                "sites/a.toml",
                "include = ['../more/a.toml']\n[[site]]\nnames = ['a']\nroot = 'a'",
            ),
            (
                "more/a.toml",
                "include = ['../main.toml', '../sites/*.toml']\n[[site]]\nnames = ['c']\nroot = 'c'",
            ),
            ("limits", "[limits]\nheaders = 7\n[timeouts]\nlinger = '2s'"),
        ]);
        let settings = settings.unwrap();
        let names: Vec<_> = settings
            .sites
            .iter()
            .map(|site| site.names[0].as_str())
            .collect();
        assert_eq!(names, ["a", "c", "b"]);
        let roots: Vec<_> = settings
            .sites
            .iter()
            .filter_map(|site| site.root.as_ref())
            .collect();
        assert!(roots[0].ends_with("sites/a"), "{roots:?}");
        assert!(roots[1].ends_with("more/c"), "{roots:?}");
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(settings.limits.headers, 7);
        let times = [settings.timeouts.header, settings.timeouts.linger];
        assert_eq!(times.map(|time| time.as_secs()), [1, 2]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn problems_of_included_files_have_their_file_and_line() {
        let rows: &[(&str, &str, &str)] = &[
            ("include = ['a.toml']", "\n[[site]]\nroot = ''", "a.toml:3: site.root: empty: "),
            ("include = ['a.toml']", "\n[sites", "a.toml:2: unclosed table"),
            ("include = ['a.toml']", "[[site]]\nrot = 'x'", "a.toml:2: site.rot: unknown key; did you mean `site.root`?"),
            ("include = ['a.toml']", "[[site]]\nroot = 5", "a.toml:2: site.root: expected a string, found 5"),
            ("include = ['a.toml']", "[site]\nroot = 'a'", "a.toml:1: site: write [[site]], with two brackets"),
            ("include = ['a.toml']", "[[site.headers]]\nmatch = '/'\n[[site]]\nroot = 'a'", "a.toml:1: site.headers: [[site]] has to come first"),
            ("include = ['a.toml']\n[[site]]\nroot = 'a'", "\n[[site]]\nroot = 'b'", "a.toml:2: site.names: a second site without names: the one of line 2 of "),
            ("include = ['a.toml']\n[[listen]]\naddress = ':1'", "[[listen]]\naddress = ':1'\n[[site]]\nroot = 'a'", "a.toml:2: listen.address: [::]:1 is listened on already, by line 3 of "),
            ("include = ['a.toml']\n[[site]]\nroot = 'a'\n[limits]\nheaders = 5", "[limits]\nheaders = 5", "a.toml:2: limits.headers: set already, by line 5 of "),
            ("include = ['a.toml']\n[[site]]\nroot = 'a'", "expand-environment = true", "a.toml:1: expand-environment: belongs into the first file"),
            ("include = ['a.toml']", "", "main.toml:1: site.root: required: write [[site]]"),
            ("\ninclude = [\n'a.toml', 'none.toml']", SITE, "main.toml:3: include: none.toml: No such file or directory (os error 2)"),
            ("include = ['a.toml']", "\ninclude = ['/dev/null', 'none']", "a.toml:2: include: none: No such file"),
            ("include = ['.']", SITE, "main.toml:1: include: .: a directory, not a configuration file"),
            ("include = ['[']", SITE, "main.toml:1: include: `[` is not a pattern: "),
            ("include = ['/dev/zero']", SITE, "main.toml:1: include: /dev/zero: larger than 16 MiB"),
            ("include = [5]\n[[site]]\nroot = 'a'", "", "main.toml:1: include: expected a string, found 5"),
            ("include = ['a.toml']", "include = 'b'\n[[site]]\nroot = 'a'", "a.toml:1: include: set already"),
            ("include = ['${SITES}/*']", SITE, "main.toml:1: site.root: required"),
            ("expand-environment = true\ninclude = ['${NONE}/*']", SITE, "main.toml:2: include: ${NONE} is not set"),
        ];
        for (main, included, expected) in rows {
            let error = loaded(&[("main.toml", main), ("a.toml", included)]).expect_err(main);
            assert!(error.starts_with(expected), "{main}\n   got {error}\nwanted {expected}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn problems_found_later_hide_values_too() {
        let text = "expand-environment = true\n[[site]]\nnames = ['x-${PLAIN}']\n\
                    root = '/srv/${SECRET}'\nspa-fallback = '/a'\n";
        let source = Source::new("t.toml", text);
        let variables = |name: &str| match name {
            "SECRET" => Some("hunter22".into()),
            "PLAIN" => Some("directory".into()),
            _ => None,
        };
        let site = || Place::of("site").item(0);
        let reason = "cannot serve /srv/hunter22: no such directory";
        let rows = [
            (site().key("root"), "t.toml:4: site.root: "),
            (site().key("spa-fallback"), "t.toml:5: site.spa-fallback: "),
            (site().key("index"), "t.toml:2: site.index: "),
        ];
        for (place, start) in rows {
            let found = [(place, reason.to_owned())];
            let problems = source.problems_with(found, &variables).unwrap();
            let problem = problems[0].to_string();
            assert!(problem.starts_with(start), "{problem}");
            assert!(problem.contains("${SECRET}"), "{problem}");
            assert!(!problem.contains("hunter22"), "{problem}");
            assert!(problem.contains("no such directory"), "{problem}");
        }
    }

    #[test]
    fn files_are_nested_eight_deep() {
        let name = |number: usize| {
            if number == 0 {
                "main.toml".to_owned()
            } else {
                format!("{number}")
            }
        };
        let nested = |depth: usize| {
            let files = (0..=depth).map(|number| {
                let text = format!("include = ['{}']\n", name(number + 1));
                (
                    name(number),
                    if number == depth {
                        SITE.to_owned()
                    } else {
                        text
                    },
                )
            });
            let files: Vec<_> = files.collect();
            let files: Vec<_> = files
                .iter()
                .map(|(name, text)| (&**name, &**text))
                .collect();
            loaded(&files)
        };
        assert_eq!(nested(8).unwrap().sites.len(), 1);
        assert_eq!(
            nested(9).unwrap_err(),
            "8:1: include: 9: nested more than 8 files deep"
        );
    }

    #[test]
    fn all_files_together_have_a_limit() {
        let large = format!("#{}\n", " ".repeat(9 << 20));
        let error = loaded(&[
            ("main.toml", "include = ['?']\n"),
            ("a", &large),
            ("b", &large),
        ]);
        assert_eq!(
            error.unwrap_err(),
            "main.toml:1: include: b: with it, all files are larger than 16 MiB"
        );
    }

    #[test]
    fn late_problems_are_in_the_file_of_their_key() {
        let directory = directory(&[
            (
                "main.toml",
                "include = ['a']\n[[site]]\nnames = ['a']\nroot = 'a'\n",
            ),
            ("a", "\n[[site]]\nroot = 'b'\n"),
        ]);
        let source = Source::read(&directory.path().join("main.toml")).unwrap();
        let place = Place::of("site").item(1).key("root");
        let problems = source.problems([(place, "gone".to_owned())]).unwrap();
        assert_eq!(problems[0].file, directory.path().join("a"));
        assert_eq!(problems[0].line, 3);
    }

    #[test]
    fn variables_are_expanded_where_asked_for() {
        let text = "include = ['${SITES}/*']\n[timeouts]\nheader = '${TIME}'\n[[site]]\nroot = '${WWW}/a'\n[[site.redirects]]\nfrom = '/a/*'\nto = '/b/$1'\n";
        let on = format!("expand-environment = true\n{text}");
        let included = "[[site]]\nnames = ['${NONE:-a.example}']\nroot = '${WWW}/b'\n";
        let settings = loaded(&[("main.toml", &on), ("sites/a", included)]).unwrap();
        assert_eq!(settings.timeouts.header.as_secs(), 7);
        let roots: Vec<_> = settings
            .sites
            .iter()
            .filter_map(|site| site.root.as_ref())
            .collect();
        assert_eq!(roots, [Path::new("/srv/www/a"), Path::new("/srv/www/b")]);
        assert_eq!(settings.sites[1].names, ["a.example"]);
        assert_eq!(settings.sites[0].redirects[0].to, "/b/$1");

        let text = "[[site]]\nroot = '${WWW}'";
        let settings = loaded(&[("main.toml", text)]).unwrap();
        assert!(settings.sites[0].root.as_ref().unwrap().ends_with("${WWW}"));
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn a_refused_value_is_shown_by_the_name_of_its_variable() {
        let rows = [
            ("root = '${NONE}'", "main.toml:3: site.root: ${NONE} is not set in the environment"),
            ("root = 'a'\nnames = ['b', '${SECRET} x']", "main.toml:4: site.names: `${SECRET} x` is not the name of a host"),
            ("root = 'a'\nspa-fallback = '${SECRET}'", "main.toml:4: site.spa-fallback: `${SECRET}` is not the path of a file"),
            ("root = 'a'\n[timeouts]\nheader = '${SECRET}'", "main.toml:5: timeouts.header: `${SECRET}` is not a duration"),
            ("root = 'a'\n[limits]\nheaders = '${SECRET}'", "main.toml:5: limits.headers: expected a whole number, found '${SECRET}'"),
            ("root = 'a'\n[[site.headers]]\nmatch = '${SECRET}'\ncache = 'none'", "main.toml:5: site.headers.match: `${SECRET}` is not a pattern"),
            ("root = 'a'\n[[site.redirects]]\nfrom = '/a'\nto = '//${SECRET}'", "main.toml:6: site.redirects.to: "),
        ];
        for (text, expected) in rows {
            let text = format!("expand-environment = true\n[[site]]\n{text}");
            let error = loaded(&[("main.toml", &text)]).unwrap_err();
            assert!(error.starts_with(expected), "{text}\n   got {error}\nwanted {expected}");
            assert!(!error.to_lowercase().contains("hunter"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
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
        assert_eq!(Source::read(&file).unwrap().text.part(0).1, "[[site]]\n");
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
