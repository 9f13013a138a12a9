//! A file as it is served.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FileType, Statx};
use tidegate_http::{ETag, HttpDate, representation_fields};
use tidegate_uring::Fd;

/// A file, with all that its responses need.
pub struct File {
    /// Bytes, as they were when the file was looked at.
    pub len: u64,
    /// The header fields that describe it, each ended by CRLF.
    pub fields: Vec<u8>,
    /// Where its bytes are.
    pub content: Content,
    pub(crate) identity: Identity,
    /// Whether a change after it was looked at shows in its identity.
    pub(crate) settled: bool,
}

/// Where a file's bytes are.
pub enum Content {
    /// In memory: all of them.
    Memory(Bytes),
    /// In the file, to be spliced.
    File(Fd),
}

/// What changes when a file is changed or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: (u32, u32),
    inode: u64,
    len: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Identity {
    pub(crate) fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            len: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

/// Two changes within this time may leave the same modification time: the kernel's clock for it
/// ticks every 1 to 10 ms, and before Linux 6.13 nothing finer is to be had.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Whether the file has not been changed just before `now`.
pub(crate) fn is_settled(stat: &Statx, now: SystemTime) -> bool {
    let changed = modified(stat).unwrap_or(SystemTime::UNIX_EPOCH);
    now.duration_since(changed)
        .is_ok_and(|age| age > CLOCK_TICK)
}

/// The fields of a representation of type `content_type`.
pub(crate) fn fields(stat: &Statx, content_type: &str) -> Vec<u8> {
    let modified = modified(stat);
    let date = modified.map(HttpDate::new);
    let etag = ETag::new(modified.unwrap_or(SystemTime::UNIX_EPOCH), stat.stx_size);
    representation_fields(content_type, date.as_ref(), &etag)
}

/// When the file was modified; `None` before 1970.
fn modified(stat: &Statx) -> Option<SystemTime> {
    let seconds = u64::try_from(stat.stx_mtime.tv_sec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, stat.stx_mtime.tv_nsec))
}

pub(crate) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}
