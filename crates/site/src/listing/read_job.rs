//! Reads a directory. Blocking, so it runs on a thread of its own.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, Dir, DirEntry, FileType, Mode, OFlags, ResolveFlags, Statx, openat2, statx,
};
use tidegate_config::{Site, Symlinks};
use tidegate_http::Coding;

use crate::file::stat::{FIELDS, file_type};
use crate::listing::entries::Entries;
use crate::paths::is_hidden;
use crate::root_dir::resolve_flags;

/// Which entries are listed.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) site: Arc<Site>,
    pub(crate) entries_max: usize,
}

impl Config {
    /// Extensions of precompressed variants, without the dot. A variant is not listed beside its
    /// file.
    fn variant_extensions(&self) -> Vec<&'static str> {
        let codings = self.site.precompressed.iter().copied();
        codings.map(Coding::extension).collect()
    }
}

/// One directory to read.
pub(crate) struct ReadJob {
    pub(crate) directory: OwnedFd,
    pub(crate) root: OwnedFd,
    /// The directory, relative to the root.
    pub(crate) name: CString,
    pub(crate) config: Config,
    /// Bytes of memory for the entries.
    pub(crate) bytes_max: usize,
}

impl ReadJob {
    /// Reads and sorts the entries that are served: regular files, directories, and symbolic links
    /// to them that the site follows. `None`: they exceed `bytes_max`. Ends early, with a part of
    /// the entries, once it is `cancelled`.
    pub(crate) fn run(self, cancelled: &AtomicBool) -> io::Result<Option<Entries>> {
        let mut entries = Entries::default();
        // Opens the directory again: jobs on one descriptor would share its offset.
        let names = Dir::read_from(&self.directory)?;
        for entry in names {
            if cancelled.load(Ordering::Relaxed) {
                break;
            }
            let entry = entry?;
            let Some(stat) = self.served(&entry) else {
                continue;
            };
            if entries.items().len() == self.config.entries_max {
                entries.truncated = true;
                break;
            }
            let is_directory = file_type(&stat) == FileType::Directory;
            let name = entry.file_name().to_bytes();
            entries.push(name, is_directory, stat.stx_size, stat.stx_mtime.tv_sec);
            if entries.memory() > self.bytes_max {
                return Ok(None);
            }
        }
        entries.finish(&self.config.variant_extensions());
        Ok(Some(entries))
    }

    /// The statx of an entry; `None`: it is not served, or was deleted.
    fn served(&self, entry: &DirEntry) -> Option<Statx> {
        let name = entry.file_name();
        let bytes = name.to_bytes();
        let hidden = is_hidden(bytes, &self.config.site.hidden_files);
        if matches!(bytes, b"." | b"..") || hidden {
            return None;
        }
        self.stat(name)
            .filter(|stat| matches!(file_type(stat), FileType::Directory | FileType::RegularFile))
    }

    /// The statx of an entry, or of the target of a symbolic link.
    fn stat(&self, name: &CStr) -> Option<Statx> {
        let stat = statx(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW, FIELDS).ok()?;
        match (file_type(&stat), self.config.site.symlinks) {
            (FileType::Symlink, Symlinks::Never) => None,
            (FileType::Symlink, symlinks) => self.follow(name, resolve_flags(symlinks)),
            _ => Some(stat),
        }
    }

    /// The statx of the target, if the site follows the link.
    fn follow(&self, name: &CStr, resolve: ResolveFlags) -> Option<Statx> {
        let name = [self.name.to_bytes(), b"/", name.to_bytes()].concat();
        let target = openat2(
            &self.root,
            name.as_slice(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        );
        statx(target.ok()?, c"", AtFlags::EMPTY_PATH, FIELDS).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;

    fn reading(directory: &Path, entries_max: usize) -> ReadJob {
        let open = || OwnedFd::from(File::open(directory).unwrap());
        ReadJob {
            directory: open(),
            root: open(),
            name: c".".to_owned(),
            config: Config {
                site: Arc::default(),
                entries_max,
            },
            bytes_max: 100_000,
        }
    }

    #[test]
    fn a_job_is_bounded_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b", ".hidden"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        for (entries_max, count, truncated) in [(1, 1, true), (2, 2, false), (3, 2, false)] {
            let reading = reading(directory.path(), entries_max);
            let entries = reading.run(&AtomicBool::new(false)).unwrap().unwrap();
            assert_eq!(entries.items().len(), count);
            assert_eq!(entries.truncated, truncated);
        }
    }

    #[test]
    fn a_cancelled_job_ends() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), "").unwrap();
        let reading = reading(directory.path(), 1);
        let entries = reading.run(&AtomicBool::new(true)).unwrap().unwrap();
        assert!(entries.items().is_empty());
    }

    #[test]
    fn a_job_that_takes_too_much_memory_is_none() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let mut reading = reading(directory.path(), 100);
        reading.bytes_max = 1000;
        assert!(reading.run(&AtomicBool::new(false)).unwrap().is_none());
    }
}
