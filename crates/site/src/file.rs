//! A file as it is served.

use std::io::IoSliceMut;
use std::mem;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tidegate_http::{Coding, FieldLines, RepresentationFields, Validators};
use tidegate_uring::Fd;

use crate::disk::Disk;
use crate::recent::Recent;

/// A file, or a precompressed variant of one, with all that its responses need.
pub struct File {
    /// Bytes, as they were when the file was looked at.
    pub len: u64,
    /// Where its bytes are.
    pub content: Content,
    /// What requests with conditions are compared with.
    pub validators: Validators,
    /// The value of Content-Type.
    pub content_type: String,
    /// The coding of a variant.
    pub coding: Option<Coding>,
    /// What of its content was in memory a moment ago; who has read some says so.
    pub recent: Recent,
    pub(crate) fields: RepresentationFields,
    /// Closes it.
    pub(crate) disk: Disk,
}

/// Where a file's bytes are.
#[derive(Clone)]
pub enum Content {
    /// In memory: all of them. Other cores may hold the same ones.
    Memory(Bytes),
    /// In the file, to be spliced.
    File(Fd),
}

impl File {
    /// The fields of a 200 or 206, Content-Type first.
    pub fn fields(&self) -> FieldLines<'_> {
        self.fields.all()
    }

    /// The same without Content-Type and Content-Encoding, which the parts of a 206 of several say.
    pub fn fields_without_type(&self) -> FieldLines<'_> {
        self.fields.without_type()
    }

    /// The fields of a 304 (RFC 9110, section 15.4.5).
    pub fn not_modified_fields(&self) -> FieldLines<'_> {
        self.fields.not_modified()
    }

    /// Vary, if it is there: for a 412 or 416.
    pub fn vary_field(&self) -> FieldLines<'_> {
        self.fields.vary()
    }

    /// The device that it lies on.
    pub fn device(&self) -> u32 {
        self.disk.owner().device
    }

    /// Bytes of memory that it takes, whoever else holds its content.
    pub(crate) fn memory(&self) -> u64 {
        let content = match &self.content {
            // Room for one byte more tells a file that grows while it is read.
            Content::Memory(bytes) => allocated(bytes.len() + 1) + SHARED_BYTES,
            Content::File(_) => 0,
        };
        content
            + allocated(size_of::<Self>() + RC_BYTES)
            + allocated(self.fields.all().as_bytes().len())
            + allocated(self.fields.not_modified().as_bytes().len())
            + allocated(self.content_type.len())
    }

    /// Whether it is kept open and has no name any more.
    pub(crate) fn is_deleted(&self) -> bool {
        match &self.content {
            Content::Memory(_) => false,
            Content::File(fd) => is_deleted(fd),
        }
    }

    /// Descriptors that it keeps open.
    pub(crate) fn descriptors(&self) -> u64 {
        match self.content {
            Content::Memory(_) => 0,
            Content::File(_) => 1,
        }
    }
}

/// Counts of an `Rc` beside what is in it.
pub(crate) const RC_BYTES: usize = 16;

/// What content takes by which other cores find it: its identity, its place in their table, and what counts those
/// who hold it.
const SHARED_BYTES: u64 = 320;

/// Bytes that the allocator takes for so many: jemalloc has four sizes between a power of two and the next, and none
/// apart by less than 16.
pub(crate) fn allocated(bytes: usize) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step) as u64
}

impl Drop for File {
    /// Where it may take long to close it, a worker of the ring does. With the last descriptor of a file
    /// that was deleted goes its content, which for a large one keeps a core for half a second.
    fn drop(&mut self) {
        let Content::File(fd) = &self.content else {
            return;
        };
        if !is_deleted(fd) && !is_remote(fd) {
            return;
        }
        let Content::File(fd) = mem::replace(&mut self.content, Content::Memory(Bytes::new()))
        else {
            return;
        };
        self.disk.close(fd);
    }
}

/// Whether somebody else than the kernel has to answer for the file, as with FUSE, who may take any time
/// for it. Such a file system has no reads that do not wait; to ask for one is answered by the kernel
/// alone.
pub(crate) fn is_remote(fd: &Fd) -> bool {
    let mut byte = [0];
    let read = preadv2(
        fd,
        &mut [IoSliceMut::new(&mut byte)],
        0,
        ReadWriteFlags::NOWAIT,
    );
    read == Err(Errno::OPNOTSUPP)
}

fn is_deleted(fd: &Fd) -> bool {
    known(fd, StatxFlags::NLINK).is_some_and(|stat| stat.stx_nlink == 0)
}

pub(crate) fn is_regular(fd: &Fd) -> bool {
    known(fd, StatxFlags::TYPE).is_some_and(|stat| file_type(&stat) == FileType::RegularFile)
}

/// What the kernel knows of the open file: neither a disk nor a server of files is waited for.
fn known(fd: &Fd, fields: StatxFlags) -> Option<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(fd, c"", flags, fields).ok()
}

/// What changes when a file is changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: (u32, u32),
    inode: u64,
    len: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Identity {
    /// The device that the file lies on: major and minor.
    pub(crate) fn device(&self) -> (u32, u32) {
        self.device
    }

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

/// Times up to this one, the first second of 1990, are made up: reproducible builds and archives set
/// 0 or 1, zip 1980, npm 1985, the same for every content.
pub(crate) const MADE_UP_SECONDS: u64 = 631_152_000;

/// Two changes within this time may leave the same modification time: the kernel's clock for it
/// ticks every 1 to 10 ms, and before Linux 6.13 nothing finer is to be had.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// The coarsest steps in which a file system keeps times: those of FAT. ext4 with inodes of 128
/// bytes, ext3, HFS+ and many servers of files keep whole seconds.
const COARSE_STEP: Duration = Duration::from_secs(2);

/// Whether the file has not been changed just before `now`, which is no later than when it was looked
/// at, so that any change after the look shows in its identity. Its time of change, which nobody can
/// set back, must be as old as that of its content.
///
/// By the clock of this host: a server of files whose clock is behind by more than the step of its
/// times can have a change go unseen.
pub(crate) fn is_settled(stat: &Statx, now: SystemTime) -> bool {
    let least = step(stat) + CLOCK_TICK;
    [stat.stx_mtime, stat.stx_ctime].iter().all(|time| {
        let time = time_of(*time).unwrap_or(SystemTime::UNIX_EPOCH);
        now.duration_since(time).is_ok_and(|age| age > least)
    })
}

/// The steps in which the file system keeps times, beyond those of the clock: a time is rounded down
/// to one. Whoever sets a time of modification may leave out its nanoseconds; the time of change then
/// still has some, if the file system keeps any.
fn step(stat: &Statx) -> Duration {
    if stat.stx_ctime.tv_nsec == 0 && stat.stx_mtime.tv_nsec == 0 {
        COARSE_STEP
    } else {
        Duration::ZERO
    }
}

/// Whether files of this identity have one content, whoever looks and when: a change after `now`
/// will show, and the file system notes the times of changes.
pub(crate) fn tells_versions_apart(stat: &Statx, now: SystemTime) -> bool {
    is_settled(stat, now) && stat.stx_ctime.tv_sec > MADE_UP_SECONDS as i64
}

/// When the file was modified; `None` before 1970.
pub(crate) fn modified(stat: &Statx) -> Option<SystemTime> {
    time_of(stat.stx_mtime)
}

/// `None` before 1970.
fn time_of(time: StatxTimestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, time.tv_nsec))
}

/// The device that it lies on: 12 bits of major, 20 of minor, as the kernel has it.
pub(crate) fn device(stat: &Statx) -> u32 {
    stat.stx_dev_major << 20 | stat.stx_dev_minor
}

pub(crate) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, statx};

    use super::*;
    use crate::root::FIELDS;

    #[test]
    fn what_is_allocated_is_of_a_size_that_the_allocator_has() {
        let table = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (1024, 1024),
            (1025, 1280),
            (16_384, 16_384),
            (16_385, 20_480),
        ];
        for (bytes, expected) in table {
            assert_eq!(allocated(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn a_file_is_settled_when_both_its_times_are_past() {
        let file = tempfile::tempfile().unwrap();
        let mut stat = statx(&file, c"", AtFlags::EMPTY_PATH, FIELDS).unwrap();
        let now = 2 * MADE_UP_SECONDS as i64;
        // Modified, changed, settled, shared.
        let cases = [
            (now - 60, now - 60, true, true),
            (now - 60, now, false, false),
            (now, now - 60, false, false),
            (now + 60, now - 60, false, false),
            (0, now - 60, true, true),
            (now - 60, 0, true, false),
            (0, MADE_UP_SECONDS as i64, true, false),
        ];
        for (modified, changed, settled, shared) in cases {
            set(&mut stat, (modified, 0), (changed, 0));
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now as u64);
            let found = (is_settled(&stat, now), tells_versions_apart(&stat, now));
            assert_eq!(found, (settled, shared), "{modified} {changed}");
        }
    }

    #[test]
    fn times_without_nanoseconds_take_two_seconds_to_settle() {
        let file = tempfile::tempfile().unwrap();
        let mut stat = statx(&file, c"", AtFlags::EMPTY_PATH, FIELDS).unwrap();
        let now = 2 * MADE_UP_SECONDS as i64;
        // Modified, changed, milliseconds from then to the look, settled.
        let cases = [
            // A file system of seconds, or of two.
            ((now, 0), (now, 0), 21, false),
            ((now, 0), (now, 0), 1_999, false),
            ((now, 0), (now, 0), 2_019, false),
            ((now, 0), (now, 0), 2_020, true),
            // An old file that was renamed there.
            ((now - 60, 0), (now, 0), 1_999, false),
            ((now - 60, 0), (now, 0), 2_020, true),
            // A file system of nanoseconds, on which tar has set the time.
            ((now - 60, 0), (now, 1), 20, false),
            ((now - 60, 0), (now, 1), 21, true),
            ((now, 0), (now, 1), 21, true),
            // One that keeps them for the time of modification alone.
            ((now, 1), (now, 0), 21, true),
        ];
        for (modified, changed, millis, settled) in cases {
            set(&mut stat, modified, changed);
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now as u64);
            let look = now + Duration::from_millis(millis) + Duration::from_nanos(1);
            let place = format!("{modified:?} {changed:?} {millis}");
            assert_eq!(is_settled(&stat, look), settled, "{place}");
        }
    }

    fn set(stat: &mut Statx, modified: (i64, u32), changed: (i64, u32)) {
        (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec) = modified;
        (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec) = changed;
    }
}
