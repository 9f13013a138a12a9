//! The interface between the transfer loop and where its bytes are held.

use std::io;
use std::ops::Range;

use tidegate_uring::{Fd, Permit};

use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::pool::Pool;
use crate::progress::TransferProgress;

/// What holds the bytes of a transfer between the file and the socket: a pipe, or a buffer with
/// encoded bytes. [`Pump`](crate::pump::Pump) drives it:
///
/// ```text
///   reserve --> fill_from_memory --------------> send ... --> release
///      ^              | absent                  |     ^
///      |              v                         v     |
///      +-- release, fill_by_worker         suspend, resume
///          reserve
/// ```
pub(crate) trait Staging {
    /// Bytes that a long transfer sends before other tasks run.
    const QUANTUM: u64;
    /// The same of its first bytes.
    const FIRST_QUANTUM: u64 = Self::QUANTUM;

    /// Reserves what [`Staging::fill_from_memory`] and [`Staging::fill_by_worker`] need. May wait.
    async fn reserve(&mut self, source: &FileSource) -> Result<(), ErrorKind>;

    /// Releases the reservation, which holds no staged bytes.
    fn release(&mut self, pool: &Pool);

    /// The bytes to stage next.
    fn chunk(&self, source: &FileSource, progress: &TransferProgress) -> Range<u64>;

    /// The usual size of a chunk, and the least that is read ahead.
    fn chunk_bytes(&self) -> usize;

    /// Stages `chunk`, or its first part, from memory. Returns the number of bytes, 0 at the end of
    /// the file; `None` if that would wait for the disk.
    fn fill_from_memory(
        &mut self,
        source: &mut FileSource,
        chunk: &Range<u64>,
    ) -> Result<Option<usize>, ErrorKind>;

    /// Stages `chunk`, or its first part, by a worker of the ring. Reports to `source` that it was
    /// absent once the read is queued: the read goes before the prefetch of what follows. Returns
    /// the number of bytes, 0 at the end of the file.
    async fn fill_by_worker(
        &mut self,
        source: &mut FileSource,
        chunk: &Range<u64>,
        permit: Permit,
    ) -> Result<usize, ErrorKind>;

    /// Sends `len` staged bytes of the file, as many as the socket takes in one call. `more`: other
    /// bytes follow soon, so the last segment may be held back.
    fn send(&mut self, socket: &Fd, len: u64, more: bool) -> io::Result<Taken>;

    /// Called with staged bytes left, before the transfer waits for its socket or its step ends.
    fn suspend(&mut self);

    /// Called before the staged bytes are sent on. False if they are lost.
    fn resume(&mut self) -> bool;
}

/// The result of one send.
pub(crate) struct Taken {
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
    /// Whether the socket is full: it took less than it was given.
    pub(crate) full: bool,
}
