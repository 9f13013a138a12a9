//! A variant that is being written: a hidden file beside its original, which the server never
//! sends.
//!
//! It is removed when dropped. A killed process cannot do that, so each draft is locked while its
//! writer lives, and a later run removes those that are not locked.

use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

const PREFIX: &str = ".tidegate-compress-";
const SUFFIX: &str = ".tmp";

/// Attempts to create a draft: another run may take a new one for an abandoned one and remove it.
const TRIES_MAX: usize = 16;

/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o777;

/// An unfinished variant.
///
/// It is created and renamed relative to the descriptor of its directory: in a tree that others may
/// write to, a path could lead elsewhere by then.
pub(crate) struct Draft<'d> {
    directory: &'d OwnedFd,
    /// `None` once it has its final name.
    name: Option<String>,
    file: File,
}

impl<'d> Draft<'d> {
    /// An empty draft in `directory`.
    pub(crate) fn new(directory: &'d OwnedFd) -> io::Result<Self> {
        for _ in 0..TRIES_MAX {
            match Self::begin(directory) {
                Ok(draft) if is_ours(&draft.file)? => return Ok(draft),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Err(io::Error::other(
            "another run takes each file that is begun",
        ))
    }

    fn begin(directory: &'d OwnedFd) -> io::Result<Self> {
        // A new hasher has random keys, so no other run takes the same name.
        let number = RandomState::new().build_hasher().finish();
        let name = format!("{PREFIX}{number:016x}{SUFFIX}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self {
            directory,
            name: Some(name),
            file: File::from(file),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Renames the complete draft to its final name in its directory, with the time, mode and owner
    /// of its original.
    pub(crate) fn publish(mut self, original: &Metadata, variant: &OsStr) -> io::Result<()> {
        give(&self.file, original)?;
        let mode = original.mode() & PERMISSIONS;
        self.file.set_permissions(Permissions::from_mode(mode))?;
        self.file.set_modified(original.modified()?)?;
        // Synced first: a power cut could otherwise leave a file with its final name and time but
        // without its content, which would count as fresh for ever.
        self.file.sync_data()?;
        if let Some(name) = &self.name {
            renameat(self.directory, name, self.directory, variant)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // A draft that stays is hidden, and a later run removes it.
            let _ = unlinkat(self.directory, name, AtFlags::empty());
        }
    }
}

/// Locks a new draft. Another run may have found it before that, and taken it for an abandoned one.
fn is_ours(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Where files cannot be locked, no run removes abandoned drafts; nothing else differs.
        Err(TryLockError::Error(_)) => Ok(true),
    }
}

/// Whether a file is a draft, by its name.
pub(crate) fn is_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// Removes a draft whose writer is gone. Returns whether it did; false if the writer lives, or
/// another run finished or removed the draft meanwhile.
pub(crate) fn clean(directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match try_clean(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        cleaned => cleaned,
    }
}

fn try_clean(directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    // Held to the end, or the lock would be released before the file is gone.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    match file.try_lock() {
        Ok(()) => Ok(unlinkat(directory, name, AtFlags::empty()).map(|()| true)?),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Changes the owner to that of the original, as far as allowed: usually only root may.
fn give(file: &File, original: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (original.uid(), original.gid()) {
        // A member of the group may set the group alone. If even that is not allowed, the file
        // keeps the user of this process as its owner, as a copy of the original would.
        let _ = fchown(file, Some(original.uid()), Some(original.gid()))
            .or_else(|_| fchown(file, None, Some(original.gid())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NAME: &str = "draft";

    /// What another run that looks for abandoned drafts may do between the two steps of a new
    /// draft.
    #[test]
    fn a_draft_that_another_run_took_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let fd = OwnedFd::from(File::open(directory.path()).unwrap());
        let ours = File::create(&path).unwrap();
        let other = File::open(&path).unwrap();
        other.try_lock().unwrap();
        assert!(!is_ours(&ours).unwrap(), "locked");
        fs::remove_file(&path).unwrap();
        drop(other);
        assert!(!is_ours(&ours).unwrap(), "removed");
        let ours = File::create(&path).unwrap();
        assert!(is_ours(&ours).unwrap());
        assert!(!clean(&fd, NAME.as_ref()).unwrap());
        drop(ours);
        assert!(clean(&fd, NAME.as_ref()).unwrap());
        assert!(!clean(&fd, NAME.as_ref()).unwrap(), "it is gone");
    }

    #[test]
    fn a_draft_goes_away_or_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(File::open(directory.path()).unwrap());
        let names = || -> Vec<_> {
            let entries = fs::read_dir(directory.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        let draft = Draft::new(&fd).unwrap();
        assert!(is_name(&names()[0]));
        drop(draft);
        assert!(names().is_empty());
        let metadata = File::open(directory.path()).unwrap().metadata().unwrap();
        let draft = Draft::new(&fd).unwrap();
        draft.publish(&metadata, "a.br".as_ref()).unwrap();
        assert_eq!(names(), ["a.br"]);
    }
}
