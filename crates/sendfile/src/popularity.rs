//! Whether several clients request a file: then it is better kept in memory.
//!
//! The page cache belongs to all cores, and so does this table. For the last few thousand large
//! files it stores when each was last sent from its first byte, and the time before that. Ranges
//! that start elsewhere do not count, since one client that seeks or resumes sends many; nor do
//! those that end early, since a player that requests two bytes and then all is one client. A large
//! transfer touches the table once, and once for every few MiB that are dropped.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags, statx};
use tidegate_uring::Fd;

/// A file requested twice within this time is popular.
const RECENT: Duration = Duration::from_mins(10);

/// Bytes from the start of the file, or all of a smaller one, that must be sent for a visit to
/// count.
const VISIT_BYTES: u64 = 2 * 1024 * 1024;

/// Slots of the table. Two files with the same slot displace each other.
const SLOTS: usize = 4096;

static FILES: Mutex<[Option<Visits>; SLOTS]> = Mutex::new([None; SLOTS]);

/// One file's last visits.
#[derive(Clone, Copy)]
struct Visits {
    file: Identity,
    last: Instant,
    before: Option<Instant>,
}

/// Device and inode.
type Identity = (u32, u32, u64);

/// A transfer of a file.
pub(crate) struct Popularity {
    /// `None`: the file system does not report it.
    file: Option<Identity>,
    /// The position from which on this visit counts, if it can and does not yet.
    counts_at: Option<u64>,
    /// Sticky: transfers that came close together keep the file to their end, however long they
    /// take.
    popular: bool,
}

impl Popularity {
    /// A transfer of `file` that begins at `start`.
    pub(crate) fn new(file: &Fd, start: u64) -> Self {
        let found = identify(file);
        Self {
            file: found.map(|(file, _)| file),
            counts_at: found
                .filter(|_| start == 0)
                .map(|(_, len)| len.min(VISIT_BYTES)),
            popular: false,
        }
    }

    /// All before `position` was sent.
    pub(crate) fn reached(&mut self, position: u64) {
        if let Some(file) = self.file
            && self.counts_at.is_some_and(|at| position >= at)
        {
            self.counts_at = None;
            with_slot(file, |slot| note(slot, file, Instant::now()));
        }
    }

    /// Whether others requested the file lately, or had at an earlier call.
    pub(crate) fn is_popular(&mut self) -> bool {
        self.popular = self.popular
            || self.file.is_some_and(|file| {
                with_slot(file, |slot| is_popular(slot.as_ref(), file, Instant::now()))
            });
        self.popular
    }
}

fn note(slot: &mut Option<Visits>, file: Identity, now: Instant) {
    let before = slot
        .filter(|visits| visits.file == file)
        .map(|visits| visits.last);
    *slot = Some(Visits {
        file,
        last: now,
        before,
    });
}

fn is_popular(slot: Option<&Visits>, file: Identity, now: Instant) -> bool {
    let before = slot.filter(|visits| visits.file == file);
    let before = before.and_then(|visits| visits.before);
    before.is_some_and(|before| now.duration_since(before) < RECENT)
}

fn with_slot<T>(file: Identity, act: impl FnOnce(&mut Option<Visits>) -> T) -> T {
    // Fibonacci hashing spreads neighbouring inodes over distant slots.
    let mixed = (file.2 ^ u64::from(file.1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let slot = (mixed >> 32) as usize % SLOTS;
    // Nothing panics while the lock is held.
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    act(&mut files[slot])
}

/// Identity and size of the file, as the kernel has them cached: a network file system is not
/// asked.
fn identify(file: &Fd) -> Option<(Identity, u64)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(file, c"", flags, StatxFlags::INO | StatxFlags::SIZE).ok()?;
    let file = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
    Some((file, stat.stx_size))
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::os::fd::OwnedFd;

    use super::*;

    const ONE: Identity = (8, 1, 100);
    const OTHER: Identity = (8, 1, 101);

    #[test]
    fn a_file_is_popular_from_its_second_visit_on_and_for_a_while() {
        let (mut slot, start) = (None, Instant::now());
        note(&mut slot, ONE, start);
        assert!(!is_popular(slot.as_ref(), ONE, start));
        let second = start + Duration::from_mins(1);
        note(&mut slot, ONE, second);
        assert!(is_popular(slot.as_ref(), ONE, second));
        assert!(!is_popular(slot.as_ref(), OTHER, second));
        assert!(is_popular(slot.as_ref(), ONE, start + RECENT / 2));
        assert!(!is_popular(slot.as_ref(), ONE, start + RECENT));
        note(&mut slot, ONE, start + RECENT);
        assert!(is_popular(slot.as_ref(), ONE, start + RECENT));
    }

    #[test]
    fn a_file_that_displaces_another_begins_anew() {
        let (mut slot, now) = (None, Instant::now());
        note(&mut slot, ONE, now);
        note(&mut slot, ONE, now);
        note(&mut slot, OTHER, now);
        assert!(!is_popular(slot.as_ref(), OTHER, now));
        assert!(!is_popular(slot.as_ref(), ONE, now));
    }

    /// A file of `len` bytes without visits, even if an earlier test's file had the same inode.
    fn file_of(len: u64) -> Fd {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        let file = Fd::from(OwnedFd::from(file));
        forget(&file);
        file
    }

    fn forget(file: &Fd) {
        let (file, _) = identify(file).unwrap();
        with_slot(file, |slot| *slot = None);
    }

    /// A transfer of `range`.
    fn visit(file: &Fd, range: Range<u64>) -> Popularity {
        let mut visit = Popularity::new(file, range.start);
        visit.reached(range.end.min(range.start + 1));
        visit.reached(range.end);
        visit
    }

    #[test]
    fn transfers_that_start_elsewhere_or_end_early_do_not_count() {
        let len = 2 * VISIT_BYTES;
        let file = file_of(len);
        let mut first = visit(&file, 0..len);
        for range in [1..len, 0..2, 0..VISIT_BYTES - 1, VISIT_BYTES..len] {
            visit(&file, range);
        }
        assert!(!first.is_popular());
        let mut second = visit(&file, 0..VISIT_BYTES);
        assert!(first.is_popular() && second.is_popular());
        assert!(visit(&file, 1..len).is_popular(), "nothing of it goes");
    }

    #[test]
    fn a_smaller_file_is_visited_when_all_of_it_was_sent() {
        let file = file_of(5000);
        visit(&file, 0..4999);
        visit(&file, 0..5000);
        assert!(!visit(&file, 0..4999).is_popular());
        assert!(visit(&file, 0..5000).is_popular());
    }

    #[test]
    fn a_long_transfer_keeps_a_file_that_was_popular() {
        let file = file_of(VISIT_BYTES);
        let mut first = visit(&file, 0..VISIT_BYTES);
        assert!(visit(&file, 0..VISIT_BYTES).is_popular());
        assert!(first.is_popular());
        // As after ten minutes.
        forget(&file);
        assert!(first.is_popular());
        assert!(!visit(&file, 0..VISIT_BYTES).is_popular());
    }
}
