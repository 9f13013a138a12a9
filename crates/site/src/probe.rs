//! Checks that the files in a configuration exist: before the server starts, or beside it, without
//! a ring.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statx};
use rustix::io::Errno;
use tidegate_config::Symlinks;

use crate::error::RootError;
use crate::file::stat::FIELDS;
use crate::root_dir::resolve_flags;
use crate::roots::root_path::open_root;

/// An open root in which files are found as a lookup finds them.
pub struct Probe {
    path: PathBuf,
    root: OwnedFd,
    resolve: ResolveFlags,
}

impl Probe {
    /// Opens the directory as the server does at start. Blocking.
    pub fn open(path: &Path, symlinks: Symlinks) -> Result<Self, RootError> {
        let refused = |source| RootError {
            path: path.to_owned(),
            source,
        };
        let (root, _) = open_root(path).map_err(refused)?;
        Ok(Self {
            path: path.to_owned(),
            root,
            resolve: resolve_flags(symlinks),
        })
    }

    /// Checks that the file at `path`, which begins with a slash, can be sent. Blocking.
    ///
    /// # Errors
    ///
    /// The reason, for a message to the operator.
    pub fn file(&self, path: &str) -> Result<(), String> {
        let reason = match self.kind(path) {
            Ok(FileType::RegularFile) => return Ok(()),
            Ok(FileType::Directory) => "it is a directory".to_owned(),
            Ok(_) => "it is no regular file".to_owned(),
            Err(error) => reason(&error),
        };
        Err(format!(
            "cannot send {}{path}: {reason}",
            self.path.display()
        ))
    }

    fn kind(&self, path: &str) -> io::Result<FileType> {
        let name = path.trim_start_matches('/');
        // O_NONBLOCK: opening a fifo must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat2(&self.root, name, flags, Mode::empty(), self.resolve)?;
        let stat = statx(&file, c"", AtFlags::EMPTY_PATH, FIELDS)?;
        Ok(FileType::from_raw_mode(stat.stx_mode.into()))
    }
}

/// The error, with the key of the configuration where that is the cause.
fn reason(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::XDEV) => "a symbolic link leads out of the root (site.symlinks)".to_owned(),
        Some(Errno::LOOP) => "site.symlinks does not follow its symbolic link".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_found_as_a_lookup_finds_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("www");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/page.html"), "x").unwrap();
        fs::write(directory.path().join("outside"), "x").unwrap();
        symlink("sub/page.html", root.join("inside")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        let rows = [
            ("/sub/page.html", Symlinks::Never, ""),
            ("/inside", Symlinks::Beneath, ""),
            ("/out", Symlinks::Follow, ""),
            (
                "/inside",
                Symlinks::Never,
                "does not follow its symbolic link",
            ),
            ("/out", Symlinks::Beneath, "leads out of the root"),
            ("/sub", Symlinks::Beneath, "it is a directory"),
            ("/none", Symlinks::Beneath, "No such file or directory"),
        ];
        for (path, symlinks, expected) in rows {
            let probe = Probe::open(&root, symlinks).unwrap();
            let reason = probe.file(path).err().unwrap_or_default();
            assert!(reason.contains(expected), "{path}: {reason}");
            assert_eq!(reason.is_empty(), expected.is_empty(), "{path}: {reason}");
        }
    }

    #[test]
    fn a_root_is_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "x").unwrap();
        for name in ["none", "file"] {
            assert!(Probe::open(&directory.path().join(name), Symlinks::Beneath).is_err());
        }
    }
}
