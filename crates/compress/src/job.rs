//! A variant to make, and its path.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_http::Coding;

/// A variant to make.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The original, relative to the root.
    pub(crate) path: Arc<Path>,
    pub(crate) coding: Coding,
    /// Bytes of the original.
    pub(crate) len: u64,
    /// Whether there is a variant, which the new one replaces.
    pub(crate) replaces: bool,
}

/// The path of a variant.
pub(crate) fn variant(path: &Path, coding: Coding) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(coding.extension());
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_added_to_the_whole_name() {
        let path = variant(Path::new("a/b.min.js"), Coding::Zstd);
        assert_eq!(path, Path::new("a/b.min.js.zst"));
    }
}
