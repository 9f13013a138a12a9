//! Small files with secrets.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The permission bits of all who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// Longer files are a mistake.
const BYTES_MAX: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is a directory, a pipe or a device, which might never end.
    #[error("is no regular file")]
    NotRegular,
    /// It is longer than 1 MiB.
    #[error("is longer than 1 MiB")]
    TooLong,
}

/// The permission bits of a file, if users besides its owner and group have access to it. Blocking.
///
/// # Errors
///
/// Where stat(2) fails.
pub fn open_mode(path: &Path) -> io::Result<Option<u32>> {
    let mode = fs::metadata(path)?.permissions().mode();
    Ok((mode & OTHERS != 0).then_some(mode & 0o777))
}

/// The bytes of a file, which are wiped when they are dropped. Blocking.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // A pipe would block in open(2) until somebody writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = File::open(path)?;
    // No reallocation leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize + 1));
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(FileError::TooLong);
    }
    Ok(bytes)
}
