//! Reads on the executor's blocking thread, for when the kernel has no worker.
//!
//! Where a worker cannot be started (`pids.max`, `RLIMIT_NPROC`), the kernel cancels the op that
//! needs it, with ECANCELED. The blocking thread exists from the start. It also does what a worker was
//! interrupted in (EINTR).

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, pread, retry_on_intr};
use rustix::pipe::{SpliceFlags, splice};
use tidegate_uring::{Fd, run_blocking};

/// Whether an op failed because there is no worker for it, or no longer.
pub(crate) fn lacks_worker(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::CANCELED | Errno::INTR)
    )
}

/// Splices `range` of `file`, or its first part, into the pipe of `writer`. Returns how many bytes.
///
/// Dropped: the pipe may still get bytes.
pub(crate) async fn splice_to(file: &Fd, range: &Range<u64>, writer: &Fd) -> io::Result<usize> {
    let (file, writer) = (owned(file)?, owned(writer)?);
    let (mut offset, len) = (range.start, (range.end - range.start) as usize);
    let work = move || {
        retry_on_intr(|| {
            splice(
                &file,
                Some(&mut offset),
                &writer,
                None,
                len,
                SpliceFlags::MOVE,
            )
        })
    };
    Ok(run_blocking(work).await??)
}

/// Reads `range` of `file`, or its first part.
pub(crate) async fn read(file: &Fd, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let file = owned(file)?;
    let (offset, mut buffer) = (range.start, vec![0; (range.end - range.start) as usize]);
    let work = move || {
        let count = retry_on_intr(|| pread(&file, &mut buffer[..], offset))?;
        buffer.truncate(count);
        Ok::<_, Errno>(buffer)
    };
    Ok(run_blocking(work).await??)
}

fn owned(fd: &Fd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
