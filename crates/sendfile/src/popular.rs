//! Whether a file is asked for by more than one: then it is better kept in memory.
//!
//! The page cache belongs to all cores, and so does this table. It knows of the last few thousand
//! large files when each was last sent from its first byte, and when before that; ranges that start
//! elsewhere do not count, since one client that seeks or resumes asks for many. It is touched at the start of a
//! large transfer and once for every few MiB that are given back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags, statx};
use tidegate_uring::Fd;

/// Asked for twice within this time, a file is popular.
const RECENT: Duration = Duration::from_mins(10);

/// Files that are remembered; two whose places are the same displace each other.
const PLACES: usize = 4096;

static FILES: Mutex<[Option<Seen>; PLACES]> = Mutex::new([None; PLACES]);

/// One file's last visits.
#[derive(Clone, Copy)]
struct Seen {
    file: Identity,
    last: Instant,
    before: Option<Instant>,
}

/// Device and inode.
type Identity = (u32, u32, u64);

/// A transfer of a file.
pub(crate) struct Visit {
    /// `None`: the file system does not say.
    file: Option<Identity>,
}

impl Visit {
    /// A transfer of `file` that begins now; `whole`: at its first byte.
    pub(crate) fn new(file: &Fd, whole: bool) -> Self {
        let file = identity(file);
        if let Some(file) = file
            && whole
        {
            with_place(file, |place| note(place, file, Instant::now()));
        }
        Self { file }
    }

    /// Whether others asked for the file lately.
    pub(crate) fn is_popular(&self) -> bool {
        self.file.is_some_and(|file| {
            with_place(file, |place| {
                is_popular(place.as_ref(), file, Instant::now())
            })
        })
    }
}

fn note(place: &mut Option<Seen>, file: Identity, now: Instant) {
    let before = place.filter(|seen| seen.file == file).map(|seen| seen.last);
    *place = Some(Seen {
        file,
        last: now,
        before,
    });
}

fn is_popular(place: Option<&Seen>, file: Identity, now: Instant) -> bool {
    let before = place.filter(|seen| seen.file == file);
    let before = before.and_then(|seen| seen.before);
    before.is_some_and(|before| now.duration_since(before) < RECENT)
}

fn with_place<T>(file: Identity, act: impl FnOnce(&mut Option<Seen>) -> T) -> T {
    // Fibonacci hashing: neighbouring inodes go to places far apart.
    let mixed = (file.2 ^ u64::from(file.1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = (mixed >> 32) as usize % PLACES;
    // Nothing panics while it is held.
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    act(&mut files[place])
}

/// From what the kernel knows: a file system on a network is not asked.
fn identity(file: &Fd) -> Option<Identity> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(file, c"", flags, StatxFlags::INO).ok()?;
    Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    const ONE: Identity = (8, 1, 100);
    const OTHER: Identity = (8, 1, 101);

    #[test]
    fn a_file_is_popular_from_its_second_visit_on_and_for_a_while() {
        let (mut place, start) = (None, Instant::now());
        note(&mut place, ONE, start);
        assert!(!is_popular(place.as_ref(), ONE, start));
        let second = start + Duration::from_mins(1);
        note(&mut place, ONE, second);
        assert!(is_popular(place.as_ref(), ONE, second));
        assert!(!is_popular(place.as_ref(), OTHER, second));
        assert!(is_popular(place.as_ref(), ONE, start + RECENT / 2));
        assert!(!is_popular(place.as_ref(), ONE, start + RECENT));
        note(&mut place, ONE, start + RECENT);
        assert!(is_popular(place.as_ref(), ONE, start + RECENT));
    }

    #[test]
    fn one_that_takes_a_place_begins_anew() {
        let (mut place, now) = (None, Instant::now());
        note(&mut place, ONE, now);
        note(&mut place, ONE, now);
        note(&mut place, OTHER, now);
        assert!(!is_popular(place.as_ref(), OTHER, now));
        assert!(!is_popular(place.as_ref(), ONE, now));
    }

    #[test]
    fn transfers_that_start_elsewhere_do_not_count() {
        let file = Fd::from(OwnedFd::from(tempfile::tempfile().unwrap()));
        let first = Visit::new(&file, true);
        Visit::new(&file, false);
        Visit::new(&file, false);
        assert!(!first.is_popular());
        let second = Visit::new(&file, true);
        assert!(first.is_popular() && second.is_popular());
    }
}
