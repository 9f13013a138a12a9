//! The candidates of `try-files` for a path.

/// Stands for the path in an item.
const PLACEHOLDER: &str = "$path";

/// A path to be tried.
pub(crate) struct Candidate {
    /// With a slash at its end it names a directory.
    pub(crate) path: Vec<u8>,
    /// Its item has no placeholder.
    pub(crate) is_fixed: bool,
}

/// The candidates for `path`, in order, without adjacent duplicates. One that is not `is_served` is
/// left out, unless it is fixed: the configuration names it.
pub(crate) fn candidates(
    items: &[String],
    path: &[u8],
    is_served: impl Fn(&[u8]) -> bool,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::with_capacity(items.len());
    for item in items {
        let candidate = Candidate {
            path: expand(item, path),
            is_fixed: !item.contains(PLACEHOLDER),
        };
        let last = candidates.last();
        let is_repeated = last.is_some_and(|last| last.path == candidate.path);
        if !is_repeated && (candidate.is_fixed || is_served(&candidate.path)) {
            candidates.push(candidate);
        }
    }
    candidates
}

/// `item` with `path` in place of the placeholder, a leading slash and no empty segments.
fn expand(item: &str, path: &[u8]) -> Vec<u8> {
    let mut expanded = vec![b'/'];
    for (index, part) in item.split(PLACEHOLDER).enumerate() {
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
            (&["$path.html"], "/a/", &[]), // "/a/.html" is not served
            (&["$path", "/index.html"], "/a", &["/a", "/index.html"]),
            (&["/x$path/y"], "/a/", &["/x/a/y"]),
            (&["$path/index.html"], "/", &["/index.html"]),
            (&["fixed/"], "/a", &["/fixed/"]),
            (&["/.fixed"], "/a", &["/.fixed"]),
        ];
        for (items, path, expected) in table {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            let served = |path: &[u8]| !path.windows(2).any(|two| two == b"/.");
            let expanded = candidates(&items, path.as_bytes(), served);
            let expected: Vec<&[u8]> = expected.iter().map(|path| path.as_bytes()).collect();
            let expanded: Vec<_> = expanded.iter().map(|tried| &tried.path[..]).collect();
            assert_eq!(expanded, expected, "{items:?} {path}");
        }
    }
}
