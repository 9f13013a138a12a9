//! `tidegate check`: is this configuration right, here and now?

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tidegate_config::{Error, Source, visible};

use crate::{shell, tls};

/// Says `FILE: ok` on standard output, or each problem on standard error. What the server starts with
/// all the same is a warning there, and no problem.
///
/// Problems are printed as they are, without the program's name before them,
/// so that editors can jump to `FILE:LINE`. The exit status is the answer even
/// where nobody reads the text, so a failed write is no error.
pub(crate) fn check(file: &Path) -> ExitCode {
    match problems(file) {
        Ok(warnings) => {
            for warning in warnings {
                let _ = writeln!(io::stderr(), "{warning}");
            }
            let _ = writeln!(io::stdout(), "{}: ok", visible(&file.to_string_lossy()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Checks the file, then what it names on this host. Returns the warnings.
fn problems(file: &Path) -> Result<Vec<Error>, Error> {
    let source = Source::read(file)?;
    let settings = source.settings()?;
    let sites = settings.sites.iter().enumerate();
    let unreadable: Vec<_> = sites
        .filter_map(|(number, site)| Some((number, unreadable(&site.root)?)))
        .collect();
    if !unreadable.is_empty() {
        return Err(source.refuse_sites("root", unreadable));
    }
    tls::check(&source, &settings.tls)
}

/// Why `root` cannot be served, if so.
fn unreadable(root: &Path) -> Option<String> {
    let error = readable(root).err()?;
    let hint = shell::hint(root).map(|hint| format!("; {hint}"));
    let hint = hint.unwrap_or_default();
    Some(format!("cannot serve {}: {error}{hint}", root.display()))
}

/// A directory can be served if it can be listed and the files in it reached,
/// which are two permissions.
fn readable(directory: &Path) -> io::Result<()> {
    fs::read_dir(directory)?;
    fs::metadata(directory.join("."))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn config(directory: &Path, root: &str) -> PathBuf {
        let file = directory.join("t.toml");
        fs::write(&file, format!("[[site]]\nroot = '{root}'\n")).unwrap();
        file
    }

    #[test]
    fn the_root_must_be_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        fs::create_dir(place.join("www")).unwrap();
        fs::write(place.join("file"), "").unwrap();
        assert!(problems(&config(place, "www")).is_ok());
        let rows = [
            ("none", "No such file or directory (os error 2)"),
            ("file", "Not a directory (os error 20)"),
        ];
        for (root, reason) in rows {
            let file = config(place, root);
            let error = problems(&file).unwrap_err().to_string();
            let root = place.join(root);
            assert_eq!(
                error,
                format!(
                    "{}:2: site.root: cannot serve {}: {reason}",
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
        let error = problems(&file).unwrap_err().to_string();
        let lines: Vec<&str> = error
            .lines()
            .filter_map(|line| line.split(": ").next())
            .collect();
        let place = |line| format!("{}:{line}", file.display());
        assert_eq!(lines, [place(3), place(9)]);
    }
}
