//! Paths with a `~` or `$NAME` that no shell expanded.

use std::env;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// A suggestion for a missing path that contains `~` or `$NAME`.
pub(crate) fn hint(path: &Path) -> Option<String> {
    let (part, expanded) = expanded(path, |name| env::var_os(name))?;
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let instead = expanded.map(|path| format!(": write {}", path.display()));
    let instead = instead.unwrap_or_default();
    Some(format!("no shell expands {part} here{instead}"))
}

/// The part of `path` that a shell expands, and the expanded path, if `variable` has the value.
fn expanded(
    path: &Path,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<(String, Option<PathBuf>)> {
    let mut components = path.components();
    let (part, name) = components.find_map(expandable)?;
    let start = variable(&name).filter(|value| !value.is_empty());
    let expanded = start.map(|start| Path::new(&start).join(components.as_path()));
    Some((part, expanded))
}

/// The part, and the name of the variable with its value.
fn expandable(component: Component<'_>) -> Option<(String, String)> {
    let Component::Normal(part) = component else {
        return None;
    };
    let part = part.to_str()?;
    if let Some(user) = part.strip_prefix('~') {
        // No variable has the home directory of another user.
        let name = if user.is_empty() { "HOME" } else { "" };
        return Some((part.to_owned(), name.to_owned()));
    }
    let name = part.strip_prefix('$')?;
    let inner = name
        .strip_prefix('{')
        .and_then(|name| name.strip_suffix('}'));
    let name = inner.unwrap_or(name);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let named = !name.is_empty() && name.bytes().all(is_name);
    named.then(|| (part.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_expand_is_found() {
        let rows = [
            ("/srv/www", None),
            ("www~", None),
            ("/srv/a$b", None),
            ("/srv/$", None),
            ("~/www", Some(("~", Some("/home/a/www")))),
            ("etc/~/www", Some(("~", Some("/home/a/www")))),
            ("$HOME/www/x", Some(("$HOME", Some("/home/a/www/x")))),
            ("/etc/${HOME}/www", Some(("${HOME}", Some("/home/a/www")))),
            ("$NONE/www", Some(("$NONE", None))),
            ("~anna/www", Some(("~anna", None))),
        ];
        for (path, expected) in rows {
            let variable = |name: &str| (name == "HOME").then(|| OsString::from("/home/a"));
            let found = expanded(Path::new(path), variable);
            let expected = expected.map(|(part, path)| (part.to_owned(), path.map(PathBuf::from)));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn a_directory_that_is_there_needs_no_hint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("~");
        assert!(hint(&path).is_some());
        std::fs::create_dir(&path).unwrap();
        assert_eq!(hint(&path), None);
    }
}
