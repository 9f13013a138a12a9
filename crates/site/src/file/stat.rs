//! What statx(2) says of a file, and what the kernel knows of an open one without waiting.

use std::io::IoSliceMut;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tidegate_uring::Fd;

/// The fields that every statx(2) requests.
pub(crate) const FIELDS: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME);

/// Whether another process answers for the file, as with FUSE, and may take any time. Such a file
/// system has no `RWF_NOWAIT` reads, and the kernel says so without asking it.
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

pub(crate) fn is_deleted(fd: &Fd) -> bool {
    stat_without_sync(fd, StatxFlags::NLINK).is_some_and(|stat| stat.stx_nlink == 0)
}

pub(crate) fn is_regular(fd: &Fd) -> bool {
    stat_without_sync(fd, StatxFlags::TYPE)
        .is_some_and(|stat| file_type(&stat) == FileType::RegularFile)
}

/// A statx that neither a disk nor a file server delays.
fn stat_without_sync(fd: &Fd, fields: StatxFlags) -> Option<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(fd, c"", flags, fields).ok()
}

/// Distinguishes the versions of a file: it changes when the file is changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint {
    device: (u32, u32),
    inode: u64,
    len: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Fingerprint {
    /// Major and minor number of the device.
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

/// Times up to this one, the first second of 1990, are placeholders: reproducible builds and
/// archives set 0 or 1, zip 1980, npm 1985, whatever the content.
pub(crate) const MADE_UP_SECONDS: u64 = 631_152_000;

/// Two changes within this time may leave the same mtime: the kernel's clock for it ticks every 1
/// to 10 ms, and before Linux 6.13 there is nothing finer.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// The coarsest granularity of times: that of FAT. ext4 with inodes of 128 bytes, ext3, HFS+ and
/// many file servers keep whole seconds.
const COARSE_GRANULARITY: Duration = Duration::from_secs(2);

/// Whether the last change of the file is long enough before `now` that any later change shows in
/// its [`Fingerprint`]. `now` is no later than the statx. The ctime, which nobody can set back,
/// must be as old as the mtime.
///
/// `now` is of this host's clock: a change may go unseen on a file server whose clock is behind by
/// more than the granularity of its times.
pub(crate) fn is_settled(stat: &Statx, now: SystemTime) -> bool {
    let least = granularity(stat) + CLOCK_TICK;
    [stat.stx_mtime, stat.stx_ctime].iter().all(|time| {
        let time = time_of(*time).unwrap_or(SystemTime::UNIX_EPOCH);
        now.duration_since(time).is_ok_and(|age| age > least)
    })
}

/// The granularity to which the file system rounds times down. A tool that sets an mtime may leave
/// out its nanoseconds; the ctime then still has some, if the file system keeps any.
fn granularity(stat: &Statx) -> Duration {
    if stat.stx_ctime.tv_nsec == 0 && stat.stx_mtime.tv_nsec == 0 {
        COARSE_GRANULARITY
    } else {
        Duration::ZERO
    }
}

/// Whether all files with this fingerprint have one content: any change after `now` shows, and the
/// file system records ctimes.
pub(crate) fn tells_versions_apart(stat: &Statx, now: SystemTime) -> bool {
    is_settled(stat, now) && stat.stx_ctime.tv_sec > MADE_UP_SECONDS as i64
}

/// The mtime; `None` before 1970.
pub(crate) fn modified(stat: &Statx) -> Option<SystemTime> {
    time_of(stat.stx_mtime)
}

/// `None` before 1970.
fn time_of(time: StatxTimestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, time.tv_nsec))
}

/// The device number as the kernel encodes it: 12 bits of major, 20 of minor.
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
