//! `tidegate check`: checks a configuration, and the files it names on this host.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tidegate_config::{Error, Source, visible};

use crate::inspect::{Found, inspect};

/// Prints `FILE: ok` on standard output, or each problem on standard error. Faults with which the
/// server still starts are printed there as warnings.
///
/// Problems are printed without the program's name, so that editors can jump to `FILE:LINE`. A
/// failed write is ignored: the exit status is the result.
pub(crate) fn check(file: &Path) -> ExitCode {
    let found = match found(file) {
        Ok(found) => found,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    let lines: String = found.iter().map(line).collect();
    let _ = io::stderr().write_all(lines.as_bytes());
    if found.iter().any(|one| one.is_error) {
        return ExitCode::FAILURE;
    }
    let _ = writeln!(io::stdout(), "{}: ok", visible(&file.to_string_lossy()));
    ExitCode::SUCCESS
}

/// Checks the file, then the files and directories that it names.
fn found(file: &Path) -> Result<Vec<Found>, Error> {
    let source = Source::read(file)?;
    let settings = source.settings()?;
    inspect(&source, &settings)
}

fn line(found: &Found) -> String {
    let mut problem = found.problem.clone();
    if !found.is_error {
        problem.reason.insert_str(0, "warning: ");
    }
    format!("{problem}\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn config(directory: &Path, root: &str) -> PathBuf {
        let file = directory.join("t.toml");
        fs::write(&file, format!("[[site]]\nroot = '{root}'\n")).unwrap();
        file
    }

    fn lines(file: &Path) -> String {
        found(file).unwrap().iter().map(line).collect()
    }

    #[test]
    fn the_root_must_be_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        fs::create_dir(place.join("www")).unwrap();
        fs::write(place.join("file"), "").unwrap();
        assert_eq!(lines(&config(place, "www")), "");
        let rows = [
            ("none", "No such file or directory (os error 2)"),
            ("file", "Not a directory (os error 20)"),
        ];
        for (root, reason) in rows {
            let file = config(place, root);
            let root = place.join(root);
            assert_eq!(
                lines(&file),
                format!(
                    "{}:2: site.root: cannot serve {}: {reason}\n",
                    file.display(),
                    root.display()
                )
            );
        }
    }

    #[test]
    fn every_root_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.toml");
        let site =
            |name: &str, root: &str| format!("[[site]]\nnames = ['{name}']\nroot = '{root}'\n");
        let text = site("a", "none") + &site("b", ".") + &site("c", "neither");
        fs::write(&file, text).unwrap();
        let lines = lines(&file);
        let places: Vec<&str> = lines
            .lines()
            .filter_map(|line| line.split(": ").next())
            .collect();
        let place = |line| format!("{}:{line}", file.display());
        assert_eq!(places, [place(3), place(9)]);
    }
}
