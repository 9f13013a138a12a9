//! A blob that is being written.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3;

use super::error::StoreError;
use super::files::{Draft, pwrite_all};
use super::footer::{FOOTER_LEN, Footer};
use super::shared::Shared;

/// Writes a blob. Nobody finds it before [`Writer::publish`].
///
/// Dropped without that: its space is free again and its file is gone.
pub struct Writer {
    shared: Arc<Shared>,
    name: u128,
    len: u64,
    written: u64,
    hash: Xxh3,
    draft: Draft,
    /// Reserved in the index, until it is a blob.
    blocks: Option<u32>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, name: u128, len: u64) -> Result<Self, StoreError> {
        shared.check_health()?;
        let blocks = shared.take_space(len)?;
        match shared.files.draft(name, len + FOOTER_LEN) {
            Ok(draft) => Ok(Self {
                shared,
                name,
                len,
                written: 0,
                hash: Xxh3::new(),
                draft,
                blocks: Some(blocks),
            }),
            Err(error) => {
                shared.index().release(blocks);
                Err(match error {
                    Errno::FBIG => shared.too_large(len),
                    error => shared.failed("reserve a file", error.into()),
                })
            }
        }
    }

    /// The file, with what is written so far from offset 0. Readers may duplicate the descriptor,
    /// and keep it after the writer is gone. They must read at offsets (pread(2), splice(2)), and
    /// not beyond what is known to be written: a footer follows at the end.
    pub fn file(&self) -> &OwnedFd {
        &self.draft.file
    }

    /// Writes the next bytes of the blob, all of them or none.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more bytes than were reserved; that of the disk, after which the same
    /// bytes may be written again.
    pub fn write_at_end(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.len - self.written {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("more than the {} bytes of the blob", self.len),
            ));
        }
        self.write(bytes, "write a blob")?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Gives the blob its name, in place of one that has it. It is not on the disk then (no
    /// fsync(2)): after a crash of the host it is there as a whole, or not found.
    ///
    /// # Errors
    ///
    /// [`StoreError::Incomplete`] if not all bytes were written; [`StoreError::Full`] and
    /// [`StoreError::Failed`] for those of the disk. Then it is as if the writer was dropped.
    pub fn publish(mut self) -> Result<(), StoreError> {
        if self.written != self.len {
            return Err(StoreError::Incomplete {
                written: self.written,
                len: self.len,
            });
        }
        let footer = Footer {
            len: self.len,
            checksum: self.hash.digest(),
            boot_id: self.shared.boot_id,
        };
        self.write(&footer.encode(), "write a footer")
            .map_err(|error| {
                StoreError::from_io("write a footer", self.shared.files.path(), error)
            })?;
        let Some(blocks) = self.blocks.take() else {
            return Ok(());
        };
        let published = self.shared.publish(self.name, &self.draft, blocks);
        published.map_err(|error| {
            self.shared.files.discard(&self.draft);
            self.shared.failed("publish a blob", error.into())
        })
    }

    /// Writes behind what is written, and has the store remember an error.
    fn write(&self, bytes: &[u8], operation: &'static str) -> io::Result<()> {
        pwrite_all(&self.draft.file, bytes, self.written).inspect_err(|error| {
            self.shared.failed(operation, copy(error));
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(blocks) = self.blocks.take() {
            self.shared.files.discard(&self.draft);
            self.shared.index().release(blocks);
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("name", &format_args!("{:032x}", self.name))
            .field("len", &self.len)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// The same error of the system. [`io::Error`] is not [`Clone`].
fn copy(error: &io::Error) -> io::Error {
    Errno::from_io_error(error).unwrap_or(Errno::IO).into()
}
