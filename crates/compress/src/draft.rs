//! A variant while it is written: a hidden file beside its original, which the server never sends.
//!
//! It is removed when it is dropped. A process that is killed cannot do that, so each draft is locked as
//! long as its writer lives, and a later run removes those that are not.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

const PREFIX: &str = ".tidegate-compress-";
const SUFFIX: &str = ".tmp";

/// The bits of a mode that say who may read and write.
const PERMISSIONS: u32 = 0o777;

/// A variant that is not finished.
pub(crate) struct Draft(NamedTempFile);

impl Draft {
    /// An empty draft in `directory`.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let mut name = Builder::new();
        let file = name.prefix(PREFIX).suffix(SUFFIX).tempfile_in(directory)?;
        // Where files can't be locked nobody removes what is left, and nothing else is different.
        let _ = file.as_file().try_lock();
        Ok(Self(file))
    }

    pub(crate) fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Puts the draft, which is all written, in its place, with the time, mode and owner of its original.
    pub(crate) fn publish(self, original: &Metadata, variant: &Path) -> io::Result<()> {
        let file = self.file();
        give(file, original)?;
        let mode = original.mode() & PERMISSIONS;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.set_modified(original.modified()?)?;
        // Or a power cut could leave a file that has its name and time and not its content: fresh for ever.
        file.sync_data()?;
        self.0.persist(variant).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Whether a file is a draft, by its name.
pub(crate) fn is_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// Removes a draft whose writer is gone; returns whether it was.
pub(crate) fn clean(path: &Path) -> io::Result<bool> {
    match File::open(path)?.try_lock() {
        Ok(()) => fs::remove_file(path).map(|()| true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Hands the file to the owner of the original as far as this is allowed: to root, as a rule.
fn give(file: &File, original: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (original.uid(), original.gid()) {
        // The group alone can be set by its members. Where not even that is allowed the file stays with
        // who runs this, as a copy of the original would.
        let _ = fchown(file, Some(original.uid()), Some(original.gid()))
            .or_else(|_| fchown(file, None, Some(original.gid())));
    }
    Ok(())
}
