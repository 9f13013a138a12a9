//! What a directory offers to a store, for a report. Nothing is left there.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, fdatasync, flock, fstatvfs, openat, unlinkat,
};
use rustix::io::Errno;

use super::error::StoreError;
use super::files::pwrite_all;
use super::index::BLOCK;

/// The name of a file where none can be without one.
const PROBE: &str = ".tidegate-probe";

/// What a directory offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The directory of the store, or the one above it in which it will be made.
    pub directory: PathBuf,
    /// Bytes that are free there, for a user without privileges.
    pub free: u64,
    /// Bytes of the file system.
    pub total: u64,
    /// Whether there are files without a name (`O_TMPFILE`, open(2)).
    pub has_unnamed: bool,
}

/// Looks at the directory `path` of a store, and writes a block there. Blocking, for as long as the
/// file system does not answer.
///
/// # Errors
///
/// As [`Store::open`](super::Store::open), and if nothing can be written.
pub fn survey(path: &Path) -> Result<Survey, StoreError> {
    let failed = |operation, error: io::Error| StoreError::Open {
        operation,
        path: path.to_owned(),
        source: error,
    };
    let directory = path.ancestors().find(|above| above.exists());
    let directory = match directory {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, directory, flags, Mode::empty());
    let root = root.map_err(|error| failed("open", error.into()))?;
    if directory == path && is_locked(&root).map_err(|error| failed("lock", error.into()))? {
        return Err(StoreError::Locked {
            path: path.to_owned(),
        });
    }
    let has_unnamed = write(&root).map_err(|error| failed("write in", error))?;
    let space = fstatvfs(&root).map_err(|error| failed("read", error.into()))?;
    Ok(Survey {
        directory: directory.to_owned(),
        free: space.f_bavail * space.f_frsize,
        total: space.f_blocks * space.f_frsize,
        has_unnamed,
    })
}

/// Whether a store has the directory.
fn is_locked(root: &std::os::fd::OwnedFd) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match openat(root, "lock", flags, Mode::empty()) {
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
        // Closed at once, it is free again.
        Ok(lock) => match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            other => other.map(|()| false),
        },
    }
}

/// Writes a block to the disk. Whether the file needed no name.
fn write(root: &std::os::fd::OwnedFd) -> io::Result<bool> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let (file, has_unnamed) = match openat(root, ".", flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = openat(root, PROBE, flags, mode)?;
            unlinkat(root, PROBE, AtFlags::empty())?;
            (file, false)
        }
        file => (file?, true),
    };
    pwrite_all(&file, &[0x5a; BLOCK as usize], 0)?;
    fdatasync(&file)?;
    Ok(has_unnamed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Store, StoreConfig};
    use super::*;

    #[test]
    fn it_says_what_an_open_would_and_leaves_nothing() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/cache");
        let surveyed = survey(&path).unwrap();
        assert_eq!(surveyed.directory, above.path());
        assert!(surveyed.free > 0 && surveyed.free <= surveyed.total);
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 0);
        let config = StoreConfig {
            path: path.clone(),
            size: 1 << 20,
            succeeds: false,
        };
        let store = Store::open(config).unwrap();
        let locked = survey(&path);
        assert!(
            matches!(locked, Err(StoreError::Locked { .. })),
            "{locked:?}"
        );
        drop(store);
        assert_eq!(survey(&path).unwrap().directory, path);
        fs::write(above.path().join("file"), "").unwrap();
        let refused = survey(&above.path().join("file")).unwrap_err();
        assert!(refused.to_string().contains("cannot open"), "{refused}");
    }
}
