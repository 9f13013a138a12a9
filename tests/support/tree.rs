//! A fresh directory tree: a root to be served, and a secret beside it that must never be.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// The content of the file outside of the root.
pub(crate) const SECRET: &str = "this byte string is outside of the root";

/// A temporary directory that holds `www`, the root, and `secret`, outside of it. Any user can read it.
pub(crate) struct Tree {
    base: TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let base = TempDir::with_prefix("tidegate-").expect("a temporary directory");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(base.path(), open).expect("permissions of a temporary directory");
        fs::create_dir(base.path().join("www")).expect("a root");
        fs::write(base.path().join("secret"), SECRET).expect("a secret");
        Self { base }
    }

    /// A tree with the single file `path` in its root.
    pub(crate) fn with(path: &str, content: &[u8]) -> Self {
        let tree = Self::new();
        tree.write(path, content);
        tree
    }

    /// The directory that the root stands in.
    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    /// The directory to be served.
    pub(crate) fn root(&self) -> PathBuf {
        self.base().join("www")
    }

    /// Where `path`, relative to the root, is on disk.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// Makes the file `path` and the directories above it.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        let parent = path.parent().expect("a file is in a directory");
        fs::create_dir_all(parent).expect("directories for a file");
        fs::write(path, content).expect("a file");
    }

    /// Makes the file `path` as [`Tree::write`] does, last modified `seconds` after 1970.
    pub(crate) fn write_at(&self, path: &str, content: &[u8], seconds: u64) {
        self.write(path, content);
        self.modified(path, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }

    /// Sets when the file `path` was last modified.
    pub(crate) fn modified(&self, path: &str, time: SystemTime) {
        let file = File::options().write(true).open(self.path(path));
        let file = file.expect("a file");
        file.set_modified(time).expect("a time of modification");
    }

    /// Makes the directory `path` with an empty file for each of `names`. They are links to a few, which are
    /// made much faster than files.
    pub(crate) fn fill(&self, path: &str, names: impl IntoIterator<Item = String>) {
        let directory = self.path(path);
        fs::create_dir_all(&directory).expect("a directory");
        let mut first = PathBuf::new();
        for (number, name) in names.into_iter().enumerate() {
            let file = directory.join(name);
            // A file may have 65,000 names on ext4.
            if number % 50_000 == 0 {
                fs::write(&file, b"").expect("a file");
                first = file;
            } else {
                fs::hard_link(&first, file).expect("another name of a file");
            }
        }
    }

    /// Makes a symbolic link at `path` that points to `target`.
    pub(crate) fn link(&self, path: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.path(path)).expect("a symbolic link");
    }
}

/// `length` bytes that look random, always the same for a `seed`: no two blocks of them are alike, so a
/// block that is repeated, left out or out of place shows.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
