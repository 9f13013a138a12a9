//! How a transfer and its steps are carried out.

use std::time::Duration;

/// How a transfer is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The time limit for a peer that takes nothing: the transfer then ends as
    /// [`ErrorKind::Stalled`](crate::ErrorKind::Stalled), at most a quarter of this time late.
    ///
    /// On a full TCP socket, bytes that the peer acknowledges count as taken, long before there is
    /// room for more. Waits for the disk or for a pipe do not count against the peer.
    pub stall: Duration,
    /// Drop from the page cache what this transfer read from the disk, once the peer has taken it:
    /// `POSIX_FADV_DONTNEED`, 2 MiB at a time, the last part a second after the transfer. The file
    /// stays open for that second, for at most [`LATE_FILES_MAX`](crate::LATE_FILES_MAX) transfers
    /// of a [`Pool`](crate::Pool).
    ///
    /// A file that is all in memory stays there. So does a popular one: two such transfers of this
    /// process, on any cores, sent its first 2 MiB (or all of a smaller file) within ten minutes;
    /// transfers under way at that time keep it to their end. If a file is partly in memory, the
    /// part from the first absent chunk on is dropped.
    pub drop_behind: bool,
    /// Whether the range may be absent from memory because nothing read it lately. A worker then
    /// asks for the first chunk before the core probes it, since the file system may have to read
    /// the location of the bytes from the disk. Otherwise all of the range was sent from memory in
    /// the last seconds, and fewer of its bytes are probed.
    pub unread: bool,
    /// The device of the file: transfers that wait for one device do not delay those of another.
    pub device: u32,
    /// The start of the range that leaves in short sends. [`sendfile`](crate::sendfile()) alone
    /// uses it.
    pub opening: Opening,
}

/// The start of a range that leaves in short sends, the last splice of each without
/// `SPLICE_F_MORE`. A socket with kernel TLS ends a record there, so the peer can decrypt it
/// without waiting for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Total bytes in short sends; the range may end earlier.
    pub bytes: u32,
    /// Bytes of each send, at least 1.
    pub each: u32,
}

impl Opening {
    /// No short sends.
    pub const NONE: Self = Self { bytes: 0, each: 1 };
}

/// The bounds of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The most bytes of the file to send.
    pub bytes_max: u64,
    /// Other bytes follow on the socket soon, so the last segment (and, with kernel TLS, the last
    /// record) may be held back: `MSG_MORE` of send(2). Those before the last have it in any case.
    pub more: bool,
}

impl Step {
    /// All bytes of the range. Nothing follows them.
    pub const ALL: Self = Self {
        bytes_max: u64::MAX,
        more: false,
    };
}
