//! Paths of directories on disk, and of files of a site.

use std::path::{Path, PathBuf};

use super::{Checked, refuse};

/// The placeholder for the requested path in `try-files`.
pub(crate) const PATH: &str = "$path";

/// A directory's path: not empty, without NUL.
pub(crate) fn root(path: String) -> Checked<String> {
    match path.as_str() {
        "" => refuse("empty: name the directory to serve"),
        path if path.contains('\0') => refuse("a path cannot hold a NUL byte"),
        _ => Ok(path),
    }
}

/// A path on disk, relative to `directory`; empty: `None`.
pub(crate) fn path_or_empty(path: &str, directory: &Path) -> Checked<Option<PathBuf>> {
    if path.contains('\0') {
        return refuse("a path cannot hold a NUL byte");
    }
    Ok((!path.is_empty()).then(|| directory.join(path)))
}

/// The name of an index file.
pub(crate) fn index(name: String) -> Checked<String> {
    match name.as_str() {
        "" | "." | ".." => refuse(format!(
            "`{name}` is not a file name: write a name such as \"index.html\""
        )),
        name if name.contains(['/', '\0']) => refuse(format!(
            "`{}` is not a plain file name: it is looked for in the directory asked for, so it has no slash, and no NUL",
            name.escape_default()
        )),
        _ => Ok(name),
    }
}

/// The path of a file of the site, such as "/404.html": absolute, not percent-encoded.
pub(crate) fn file(path: String) -> Checked<String> {
    if !path.starts_with('/') {
        return refuse(format!(
            "`{}` is not the path of a file from the root: write it with a leading slash, such as \"{}\"",
            path.escape_debug(),
            from_root(&path)
        ));
    }
    if path.ends_with('/') {
        return refuse(format!(
            "`{}` is a directory: name a file",
            path.escape_debug()
        ));
    }
    refuse_odd_segments(&path)?;
    Ok(path)
}

/// A suggestion for a path without a leading slash.
fn from_root(path: &str) -> String {
    let below = path.trim_start_matches("./");
    if below.is_empty() || below.contains("..") || below.contains(':') {
        return "/404.html".to_owned();
    }
    format!("/{}", below.escape_debug())
}

/// The path of a file of the site; `None` if it is empty.
pub(crate) fn file_or_empty(path: String) -> Checked<Option<String>> {
    if path.is_empty() {
        return Ok(None);
    }
    file(path).map(Some)
}

/// The path at which a directory is mounted, without a slash at its end.
pub(crate) fn mount_point(path: &str) -> Checked<String> {
    let shown = path.escape_debug();
    let point = path.strip_suffix('/').unwrap_or(path);
    if point.is_empty() {
        return refuse(format!(
            "`{shown}` is all of the site: set site.root instead"
        ));
    }
    if !point.starts_with('/') {
        return refuse(format!(
            "`{shown}` is not a path from the root: write it with a leading slash, such as \"/static\""
        ));
    }
    if let Some(above) = point.strip_suffix("/**").or(point.strip_suffix("/*")) {
        return refuse(format!(
            "`{shown}` is a pattern: a path, such as `{}`, has all below it",
            above.escape_debug()
        ));
    }
    if let Some(escape) = escape(point) {
        return refuse(format!(
            "`{shown}`: paths are compared decoded: write the character that `{escape}` stands for"
        ));
    }
    refuse_odd_segments(path)?;
    Ok(point.to_owned())
}

/// The first percent-encoding in `path`.
fn escape(path: &str) -> Option<&str> {
    let mut starts = path.match_indices('%').map(|(at, _)| at);
    starts.find_map(|at| {
        let digits = path.as_bytes().get(at + 1..at + 3)?;
        let is_escape = digits.iter().all(u8::is_ascii_hexdigit);
        is_escape.then(|| &path[at..at + 3])
    })
}

/// An item of `try-files`: a path that begins with `$path` or `/` and may contain `$path`. It names
/// a directory if it ends in a slash.
pub(crate) fn try_file(item: String) -> Checked<String> {
    let shown = item.escape_debug();
    if item.starts_with('=') {
        return refuse(format!(
            "`{shown}`: what is not found is answered with 404 by itself; error-pages gives it a page"
        ));
    }
    if !item.starts_with('/') && !item.starts_with(PATH) {
        return refuse(format!(
            "`{shown}` begins with neither `$path` nor `/`: write \"$path.html\" or \"/fallback.html\""
        ));
    }
    // `$path` begins with a slash, so this would be two in a row.
    if item.contains("/$path") {
        return refuse(format!("`{shown}`: `$path` has a leading slash already"));
    }
    let fixed = item.replace(PATH, "/path");
    if fixed.contains('$') {
        return refuse(format!("`{shown}`: `$path` is all that can follow a `$`"));
    }
    refuse_odd_segments(&fixed)?;
    let below = item.replace(PATH, "/path/");
    if has_dot_segment(&below) {
        return refuse(format!(
            "`{shown}`: a path that ends in a slash would make it `{}`, which leads elsewhere",
            below.escape_debug()
        ));
    }
    Ok(item)
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Refuses segments that no request path has, so that no file would be found.
fn refuse_odd_segments(path: &str) -> Checked<()> {
    let shown = path.escape_debug();
    if path.contains('\0') {
        return refuse("a path cannot hold a NUL byte");
    }
    if path.contains("//") {
        return refuse(format!("`{shown}` has two slashes in a row"));
    }
    if has_dot_segment(path) {
        return refuse(format!(
            "`{shown}` has a segment `.` or `..`: write where it leads"
        ));
    }
    Ok(())
}
