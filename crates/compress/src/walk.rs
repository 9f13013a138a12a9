//! Walks the tree and classifies its entries.

use std::path::PathBuf;

use walkdir::{DirEntry, IntoIter, WalkDir};

use crate::draft;
use crate::error::{Action, FileError};
use crate::root::Root;

/// The one hidden name that is served (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// Something in the tree. Paths are relative to the root.
pub(crate) enum Entry {
    /// A regular file.
    File(PathBuf),
    /// A symbolic link to anything. Links to directories are not followed: the target is walked by
    /// its own path, or it is outside of the root or hidden, and then the user can name it.
    Link(PathBuf),
    /// A draft that a killed run left.
    Draft(PathBuf),
    /// Hidden: not served, so not compressed; a directory counts once, whatever it contains.
    Hidden,
    /// A directory to walk, or something that is never served.
    Other,
    /// A directory that could not be read.
    Failed(FileError),
}

/// Walks the tree of a root.
pub(crate) struct Walk<'r> {
    root: &'r Root,
    entries: IntoIter,
}

impl<'r> Walk<'r> {
    pub(crate) fn new(root: &'r Root) -> Self {
        let entries = WalkDir::new(root.real("".as_ref())).min_depth(1);
        let entries = entries.into_iter();
        Self { root, entries }
    }

    fn entry(&mut self, entry: &DirEntry) -> Entry {
        let path = || self.root.relative(entry.path()).to_owned();
        let kind = entry.file_type();
        if kind.is_file() && draft::is_name(entry.file_name()) {
            return Entry::Draft(path());
        }
        if is_hidden(entry) {
            if kind.is_dir() {
                self.entries.skip_current_dir();
            }
            return Entry::Hidden;
        }
        match () {
            () if kind.is_file() => Entry::File(path()),
            () if kind.is_symlink() => Entry::Link(path()),
            () => Entry::Other,
        }
    }

    fn error(&self, error: walkdir::Error) -> FileError {
        let path = self.root.relative(error.path().unwrap_or("".as_ref()));
        let path = path.to_owned();
        self.root.error(&path, Action::Look, error.into())
    }
}

impl Iterator for Walk<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        Some(match self.entries.next()? {
            Ok(entry) => self.entry(&entry),
            Err(error) => Entry::Failed(self.error(error)),
        })
    }
}

fn is_hidden(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    name.as_encoded_bytes().starts_with(b".") && name != WELL_KNOWN
}
