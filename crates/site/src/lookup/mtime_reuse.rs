//! Names whose content changed while their time of modification stayed.
//!
//! Whoever sets times can give two contents the same one, as `rsync -t` does over a tree that was
//! built again. No rule about times finds all of these, but this process sees some of the changes:
//! it notes the last version of each name that any core looked up. Once the content is another one
//! under the same time, that time is pinned: it makes no validator of that name any more. Dates have steps
//! of a second: under another time in the same second its tag holds, but its date is pinned.
//!
//! A name is one of a root's path, not of a directory: a release that takes the place of another is
//! compared with it.

use std::ffi::CStr;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use quick_cache::unsync;
use rustix::fs::Statx;
use xxhash_rust::xxh3::Xxh3;

use crate::file::content_hash::Digest;
use crate::file::stat::Fingerprint;

/// Names whose last versions are noted: about 6 MiB when all are there. Those that nobody looks up
/// give way.
const NAMES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: (i64, u32),
    /// A hash of all that the file system tells.
    identity: u128,
    /// That of its content; `None` where it is not at hand.
    digest: Option<Digest>,
    pinned: MtimeReuse,
}

/// Which part of a time other contents had, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MtimeReuse {
    /// None, as far as was seen.
    None,
    /// Its second: it makes no date.
    Second,
    /// All of it: it makes no validator.
    Time,
}

static NAMES: LazyLock<Mutex<unsync::Cache<u128, Version>>> =
    LazyLock::new(|| Mutex::new(unsync::Cache::new(NAMES_MAX)));

/// Notes what `name` below `root` is now, and tells how far its time is pinned.
pub(crate) fn note(root: &Path, name: &CStr, stat: &Statx, digest: Option<Digest>) -> MtimeReuse {
    let version = Version {
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        identity: hash(&Fingerprint::of(stat)),
        digest,
        pinned: MtimeReuse::None,
    };
    let key = hash(&(root.as_os_str().as_bytes(), name));
    // None is half done when a thread panics with the lock.
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let before = names.get(&key).copied();
    let version = before.map_or(version, |before| before.then(version));
    if before != Some(version) {
        names.insert(key, version);
    }
    version.pinned
}

impl Version {
    /// `next`, which came after this one.
    fn then(self, next: Self) -> Self {
        let pinned = if self.modified == next.modified {
            self.pinned_at_same_time(&next)
        } else if self.modified.0 == next.modified.0 {
            self.pinned_at_same_second(&next)
        } else {
            MtimeReuse::None
        };
        // It may be read later, and be compared with what is known of it.
        let known = self.digest.filter(|_| self.identity == next.identity);
        Self {
            pinned,
            digest: next.digest.or(known),
            ..next
        }
    }

    /// Whether it has the content of `next`, as far as is known.
    fn has_content_of(&self, next: &Self) -> bool {
        match (self.digest, next.digest) {
            (Some(before), Some(now)) => before == now,
            (None, _) | (_, None) => self.identity == next.identity,
        }
    }

    fn pinned_at_same_time(&self, next: &Self) -> MtimeReuse {
        if self.has_content_of(next) {
            self.pinned
        } else {
            MtimeReuse::Time
        }
    }

    fn pinned_at_same_second(&self, next: &Self) -> MtimeReuse {
        if self.has_content_of(next) && self.pinned == MtimeReuse::None {
            MtimeReuse::None
        } else {
            MtimeReuse::Second
        }
    }
}

fn hash(value: &impl Hash) -> u128 {
    let mut hasher = Xxh3::new();
    value.hash(&mut Writing(&mut hasher));
    hasher.digest128()
}

/// All bits of the hash, of which [`Hasher`] has half.
struct Writing<'a>(&'a mut Xxh3);

impl Hasher for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_its_second_is_pinned_once_two_contents_had_it() {
        use MtimeReuse::{None, Second, Time};
        let version = |modified, content, pinned| Version {
            modified,
            identity: 1,
            digest: Some([content; 16]),
            pinned,
        };
        // Before, next, and how far the time is pinned then.
        let cases = [
            (version((5, 1), 1, None), ((5, 1), 1), None),
            (version((5, 1), 1, None), ((5, 1), 2), Time),
            (version((5, 1), 1, Time), ((5, 1), 1), Time),
            (version((5, 1), 1, None), ((6, 1), 2), None),
            (version((5, 1), 1, Time), ((6, 1), 1), None),
            (version((5, 1), 1, None), ((5, 2), 1), None),
            (version((5, 1), 1, None), ((5, 2), 2), Second),
            (version((5, 1), 1, Time), ((5, 2), 1), Second),
            (version((5, 1), 1, Second), ((5, 1), 1), Second),
            (version((5, 1), 1, Second), ((5, 1), 2), Time),
            (version((5, 1), 1, Second), ((5, 2), 1), Second),
            (version((5, 1), 1, Second), ((6, 1), 2), None),
        ];
        for (before, (modified, content), pinned) in cases {
            let next = version(modified, content, None);
            let expected = Version { pinned, ..next };
            assert_eq!(before.then(next), expected, "{before:?} {next:?}");
        }
    }

    #[test]
    fn contents_are_compared_where_both_are_known() {
        let version = |identity, content: Option<u8>| Version {
            modified: (5, 1),
            identity,
            digest: content.map(|content| [content; 16]),
            pinned: MtimeReuse::None,
        };
        // Before, next, whether they have one content, and what is known of the content then.
        let cases = [
            ((1, None), (1, None), true, None),
            ((1, None), (2, None), false, None),
            ((1, None), (1, Some(1)), true, Some(1)),
            ((1, None), (2, Some(1)), false, Some(1)),
            ((1, Some(1)), (1, None), true, Some(1)),
            ((1, Some(1)), (2, None), false, None),
            ((1, Some(1)), (2, Some(1)), true, Some(1)),
            ((1, Some(1)), (1, Some(2)), false, Some(2)),
        ];
        for (before, next, one, known) in cases {
            let after = version(before.0, before.1).then(version(next.0, next.1));
            let pinned = if one {
                MtimeReuse::None
            } else {
                MtimeReuse::Time
            };
            let place = format!("{before:?} {next:?}");
            assert_eq!(after.pinned, pinned, "{place}");
            assert_eq!(after.digest, known.map(|content| [content; 16]), "{place}");
        }
    }

    #[test]
    fn a_name_is_one_of_its_root() {
        let root = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile().unwrap();
        let flags = rustix::fs::AtFlags::EMPTY_PATH;
        let stat = rustix::fs::statx(&file, c"", flags, crate::file::stat::FIELDS).unwrap();
        let note = |root: &Path, name, digest| note(root, name, &stat, digest) != MtimeReuse::None;
        assert!(!note(root.path(), c"a", Some([1; 16])));
        assert!(!note(root.path(), c"b", Some([2; 16])));
        assert!(!note(&root.path().join("a"), c"a", Some([2; 16])));
        assert!(!note(root.path(), c"a", Some([1; 16])));
        assert!(note(root.path(), c"a", Some([2; 16])));
        assert!(note(root.path(), c"a", Some([1; 16])));
        assert!(!note(root.path(), c"large", None));
        assert!(!note(root.path(), c"large", None));
    }
}
