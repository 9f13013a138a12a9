//! How a transfer is carried out.

use std::time::Duration;

/// How a transfer is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the peer may take nothing before the transfer ends as [`ErrorKind::Stalled`](crate::ErrorKind::Stalled),
    /// which it does at most a quarter of this time later.
    ///
    /// Of a TCP socket that is full, what its peer acknowledges counts as taken, long before
    /// there is room for more. Waits for the disk or for a pipe are not the peer's fault and do not
    /// start this time.
    pub stall: Duration,
    /// Give back the memory of what was read from the disk for this transfer, behind what the
    /// peer took: `POSIX_FADV_DONTNEED`, 2 MiB at a time, the last of it a second after the transfer.
    /// For that second the file is held open, of [`LATE_FILES_MAX`](crate::LATE_FILES_MAX) transfers of a [`Pool`](crate::Pool) at the most.
    ///
    /// A file that is all in memory stays there, and so does one of which two such transfers of this process, on
    /// whichever cores, sent the first 2 MiB (or all, if it is smaller) within ten minutes; those that
    /// were under way then keep it to their end.
    /// Of one that is in memory in parts, what follows the first part that is not goes.
    pub drop_behind: bool,
    /// Whether the range may not be in memory: nobody read it lately. The first chunk is then asked for by a
    /// worker before it is looked at, since the file system may have to read from the disk where the
    /// file's bytes are.
    pub unread: bool,
    /// The device that the file lies on: those who wait for one device do not keep those of another
    /// waiting.
    pub device: u32,
    /// What of the range leaves in short sends. For [`sendfile`](crate::sendfile()) alone.
    pub opening: Opening,
}

/// The start of a range that leaves in sends of its own, the last of each without `SPLICE_F_MORE`: a socket
/// with the kernel's TLS ends a record with each, and the peer need not wait for more to decrypt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Bytes in all; the end of the range may come before.
    pub bytes: u32,
    /// Bytes of each send, at least 1.
    pub each: u32,
}

impl Opening {
    /// All of the range leaves as it comes.
    pub const NONE: Self = Self { bytes: 0, each: 1 };
}
