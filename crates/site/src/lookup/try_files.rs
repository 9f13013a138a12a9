//! What is tried for a path: the items of try-files, with the path put in.

/// What stands for the path in an item.
const PLACE: &str = "$path";

/// What is tried for a path.
pub(crate) struct Candidate {
    /// With a slash at its end it names a directory.
    pub(crate) path: Vec<u8>,
    /// It is the same whatever is asked for.
    pub(crate) is_fixed: bool,
}

/// What `items` name for `path`, in order, none twice in a row. What is not `served` is left out,
/// but for items that name it themselves.
pub(crate) fn candidates(
    items: &[String],
    path: &[u8],
    served: impl Fn(&[u8]) -> bool,
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::with_capacity(items.len());
    for item in items {
        let candidate = Candidate {
            path: expand(item, path),
            is_fixed: !item.contains(PLACE),
        };
        let before = candidates.last();
        let repeated = before.is_some_and(|before| before.path == candidate.path);
        if !repeated && (candidate.is_fixed || served(&candidate.path)) {
            candidates.push(candidate);
        }
    }
    candidates
}

/// The path that `item` means for `path`: it begins with a slash, and no two slashes follow each
/// other.
fn expand(item: &str, path: &[u8]) -> Vec<u8> {
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
