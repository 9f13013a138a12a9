//! Functions on URL paths and names of files.

use std::ffi::CString;

use tidegate_config::HiddenFiles;

/// The one name with a dot that is always public (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// Whether a segment of `path` begins with a dot and is not one of `served`.
pub(crate) fn is_hidden(path: &[u8], served: &HiddenFiles) -> bool {
    path.split(|byte| *byte == b'/')
        .filter(|segment| segment.starts_with(b".") && *segment != WELL_KNOWN)
        .any(|segment| !served.serves(segment))
}

/// The name, relative to the root, for `path` below it. `None`: no file can have it.
pub(crate) fn relative(path: &[u8]) -> Option<CString> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    CString::new(if path.is_empty() { b"." } else { path }).ok()
}

/// The directory that `name` lies in.
pub(crate) fn parent(name: &CString) -> CString {
    let name = name.as_bytes();
    let slash = name.iter().rposition(|byte| *byte == b'/');
    let parent = slash.map_or(&b"."[..], |slash| &name[..slash]);
    // A part of a name without NUL has none.
    CString::new(parent).unwrap_or_default()
}

/// `name` with a dot and `extension` behind it.
pub(crate) fn with_extension(name: &CString, extension: &str) -> CString {
    let longer = [name.as_bytes(), b".", extension.as_bytes()].concat();
    // Neither part has a NUL.
    CString::new(longer).unwrap_or_default()
}

/// What follows the last slash of `path`.
pub(crate) fn last_segment(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    &path[slash.map_or(0, |slash| slash + 1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_with_a_dot_are_hidden() {
        let table: [(&[u8], bool); 9] = [
            (b"/", false),
            (b"/a", false),
            (b"/a.b/c.d", false),
            (b"/.a", true),
            (b"/a/.b", true),
            (b"/.git/config", true),
            (b"/a/.b/c", true),
            (b"/.well-known/security.txt", false),
            (b"/.well-known/.secret", true),
        ];
        for (path, hidden) in table {
            let none = is_hidden(path, &HiddenFiles::None);
            assert_eq!(none, hidden, "{}", path.escape_ascii());
            assert!(!is_hidden(path, &HiddenFiles::All));
        }
    }

    #[test]
    fn some_hidden_names_are_served() {
        let names = [".treeinfo", ".z*"].map(|name| name.parse().unwrap());
        let served = HiddenFiles::Named(names.into());
        let table: [(&[u8], bool); 12] = [
            (b"/", false),
            (b"/a", false),
            (b"/.treeinfo", false),
            (b"/a/.treeinfo", false),
            (b"/.treeinfo2", true),
            (b"/.zgroup", false),
            (b"/.zarr/0.0", false),
            (b"/.zarr/.git", true),
            (b"/.git/.zgroup", true),
            (b"/.z\0.git", false), // One name, which no file has.
            (b"/..zgroup", true),
            (b"/.well-known/.zgroup", false),
        ];
        for (path, hidden) in table {
            assert_eq!(is_hidden(path, &served), hidden, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn a_name_is_relative_to_the_root() {
        let table: [(&[u8], Option<&std::ffi::CStr>); 6] = [
            (b"/", Some(c".")),
            (b"/a", Some(c"a")),
            (b"/a/b", Some(c"a/b")),
            (b"/a/", Some(c"a")),
            (b"a", Some(c"a")),
            (b"/a\0b", None),
        ];
        for (path, expected) in table {
            assert_eq!(
                relative(path).as_deref(),
                expected,
                "{}",
                path.escape_ascii()
            );
        }
    }

    #[test]
    fn parents_and_last_segments() {
        assert_eq!(parent(&c"a/b/c".to_owned()).as_c_str(), c"a/b");
        assert_eq!(parent(&c"a".to_owned()).as_c_str(), c".");
        assert_eq!(last_segment(b"/a/b.c"), b"b.c");
        assert_eq!(last_segment(b"/a/"), b"");
        assert_eq!(
            with_extension(&c"a.js".to_owned(), "br").as_c_str(),
            c"a.js.br"
        );
    }
}
