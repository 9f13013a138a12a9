//! Reads a range of a file into buffers of the caller, for a protocol that frames what it sends.

use std::io::IoSliceMut;
use std::ops::Range;
use std::rc::Rc;

use tidegate_uring::{Fd, Permit, Ring};

use crate::by_thread::{self, lacks_worker};
use crate::error::ErrorKind;
use crate::file_source::FileSource;
use crate::options::Options;
use crate::pool::Pool;
use crate::transfer::Sent;

/// Bytes that are read at a time from the disk, and the least that are read ahead.
const PIECE_BYTES: usize = 64 * 1024;

/// A range of a file that is read piece by piece, with the same care for the disk as a
/// [`Transfer`](crate::Transfer): what is in memory is read on the core, the rest by a worker of
/// the ring. Between two calls it holds no permit, and no bytes but those that were fetched.
///
/// ```text
///   read_now --> bytes, if they are in memory
///      | None
///      v
///    fetch   waits for the disk; then read_now again
/// ```
///
/// Dropped: a prefetch that has not begun is cancelled. Unlike [`FileReader::finish`], this does
/// not drop the last few MiB that it brought into the page cache.
pub struct FileReader {
    source: FileSource,
    position: u64,
    /// The bytes at `position` that were read from the disk. Boxed, since many readers that wait
    /// have none.
    fetched: Option<Box<Fetched>>,
}

struct Fetched {
    bytes: Vec<u8>,
    /// How many of them are used.
    used: usize,
}

impl FileReader {
    /// Prepares to read the bytes of `file` from `range.start` to `range.end` (exclusive). The
    /// file's own position is neither used nor moved. Of the `options`, those that concern the peer
    /// are not used.
    pub fn new(
        ring: &Ring,
        pool: &Rc<Pool>,
        file: &Fd,
        range: Range<u64>,
        options: &Options,
    ) -> Self {
        Self {
            position: range.start,
            source: FileSource::new(ring, pool, file, range, options),
            fetched: None,
        }
    }

    /// Bytes of the range that are still to be read.
    pub fn remaining(&self) -> u64 {
        self.source.end().saturating_sub(self.position)
    }

    /// Where the next byte is in the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next bytes of the range into `buffers`, one after the other: together they have
    /// room for a byte, and for no more than [remain](FileReader::remaining). Returns how many;
    /// `None` if that might wait for the disk: then [`FileReader::fetch`] is next.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Truncated`]: the file ended before the range did.
    pub fn read_now(&mut self, buffers: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, ErrorKind> {
        if let Some(fetched) = &mut self.fetched {
            let count = fetched.take(buffers);
            if fetched.used == fetched.bytes.len() {
                self.fetched = None;
            }
            self.taken(count, true);
            return Ok(Some(count));
        }
        if !self.source.is_prepared(self.position) {
            return Ok(None);
        }
        let Some(count) = self.source.read(self.position, buffers) else {
            return Ok(None);
        };
        if count == 0 {
            return Err(ErrorKind::Truncated);
        }
        let taken = self.taken(count, false);
        self.source.pool().count_inline();
        self.source.resident(&taken, PIECE_BYTES);
        Ok(Some(count))
    }

    /// Frees the bytes that were fetched and not used yet. They are in the page cache, and are read
    /// again.
    pub fn forget_fetched(&mut self) {
        self.fetched = None;
    }

    /// `count` bytes were read. Returns their range.
    fn taken(&mut self, count: usize, is_cold: bool) -> Range<u64> {
        let start = self.position;
        self.position += count as u64;
        self.source.filled(start..self.position);
        self.source.pool().count_sent(count as u64, is_cold);
        start..self.position
    }

    /// Waits for the disk, until the next bytes of the range can be read without that.
    ///
    /// Dropped: a read that is under way is lost, and the same bytes are the next again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Truncated`]: the file ended before the range did. [`ErrorKind::File`]: it could
    /// not be read.
    pub async fn fetch(&mut self) -> Result<(), ErrorKind> {
        self.source.prepare(self.position).await;
        let end = self.position.saturating_add(PIECE_BYTES as u64);
        let chunk = self.position..end.min(self.source.end());
        if chunk.is_empty() || self.source.is_resident(&chunk) {
            return Ok(());
        }
        let permit = self.source.pool().cold(self.source.owner()).await;
        let bytes = self.read_by_worker(&chunk, permit).await?;
        self.source.pool().count_cold();
        if bytes.is_empty() {
            return Err(ErrorKind::Truncated);
        }
        self.fetched = Some(Box::new(Fetched { bytes, used: 0 }));
        Ok(())
    }

    async fn read_by_worker(
        &mut self,
        chunk: &Range<u64>,
        permit: Permit,
    ) -> Result<Vec<u8>, ErrorKind> {
        let buffer = Vec::with_capacity((chunk.end - chunk.start) as usize);
        let source = &mut self.source;
        let read = source
            .ring()
            .read_by_worker(source.file(), buffer, chunk.start);
        let read = read.holding(permit);
        // Queued after the read, which is needed first.
        source.absent(chunk, PIECE_BYTES);
        let bytes = match read.await {
            // Boxed, since it is rare.
            (Err(error), _) if lacks_worker(&error) => {
                Box::pin(by_thread::read(source.file(), chunk)).await
            }
            (count, bytes) => count.map(|_| bytes),
        };
        bytes.map_err(ErrorKind::File)
    }

    /// The socket took all that was read so far: drops the pages that its peer has acknowledged, if
    /// [`Options::drop_behind`] says so.
    pub fn follow(&mut self, socket: &Fd) {
        self.source.follow(socket, self.position);
    }

    /// Ends the reading. With [`Options::drop_behind`] the last pages are dropped from the page
    /// cache a second later.
    pub fn finish(mut self) -> Sent {
        self.source.finish();
        Sent {
            from_disk: self.source.met_disk(),
        }
    }
}

impl Fetched {
    /// Moves the next bytes to `buffers`. Returns how many.
    fn take(&mut self, buffers: &mut [IoSliceMut<'_>]) -> usize {
        let start = self.used;
        for buffer in buffers {
            let rest = &self.bytes[self.used..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            self.used += len;
        }
        self.used - start
    }
}
