//! What is tried for a path: the items of try-files, with the path put in.

use crate::names::is_hidden;

/// What stands for the path in an item.
const PLACE: &str = "$path";

/// A path that is tried; with a slash at its end it names a directory.
pub(crate) type Candidate = Vec<u8>;

/// What `items` name for `path`, in order, none twice in a row. What is hidden is left out, but for
/// items that name it themselves.
pub(crate) fn candidates(items: &[String], path: &[u8], hidden_files: bool) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::with_capacity(items.len());
    for item in items {
        let candidate = expand(item, path);
        let repeated = candidates.last() == Some(&candidate);
        let hidden = !hidden_files && item.contains(PLACE) && is_hidden(&candidate);
        if !repeated && !hidden {
            candidates.push(candidate);
        }
    }
    candidates
}

/// The path that `item` means for `path`: it begins with a slash, and no two slashes follow each
/// other.
fn expand(item: &str, path: &[u8]) -> Candidate {
    let mut expanded = vec![b'/'];
    for (index, part) in item.split(PLACE).enumerate() {
        if index > 0 {
            expanded.extend_from_slice(path);
        }
        expanded.extend_from_slice(part.as_bytes());
    }
    expanded.dedup_by(|next, before| *next == b'/' && *before == b'/');
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_expanded() {
        let table: [(&[&str], &str, &[&str]); 10] = [
            (&["$path", "$path/"], "/a", &["/a", "/a/"]),
            (&["$path", "$path/"], "/a/", &["/a/"]),
            (&["$path", "$path/"], "/", &["/"]),
            (&["$path.html"], "/a", &["/a.html"]),
            (&["$path.html"], "/a/", &[]), // "/a/.html" is hidden
            (&["$path", "/index.html"], "/a", &["/a", "/index.html"]),
            (&["/x$path/y"], "/a/", &["/x/a/y"]),
            (&["$path/index.html"], "/", &["/index.html"]),
            (&["fixed/"], "/a", &["/fixed/"]),
            (&["/.fixed"], "/a", &["/.fixed"]),
        ];
        for (items, path, expected) in table {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            let expanded = candidates(&items, path.as_bytes(), false);
            let expected: Vec<&[u8]> = expected.iter().map(|path| path.as_bytes()).collect();
            assert_eq!(expanded, expected, "{items:?} {path}");
        }
    }
}
