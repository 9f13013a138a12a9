//! Remembers which mtimes were seen with two contents.
//!
//! A tool that sets mtimes can give two contents the same one, as `rsync -t` does over a tree that
//! was built again. No rule about times detects all of these, but this process sees some of the
//! changes: it records the last version of each name that any core looked up. Once another content
//! has the same mtime, that mtime makes no validator of the name any more. Dates count whole
//! seconds: if another mtime of the same second had another content, the mtime still makes an
//! entity tag, but no date.
//!
//! A name belongs to the path of a root, not to a directory: a release that replaces another is
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

/// Names in the table, which takes about 6 MiB when it is full. The least used are evicted.
const NAMES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: (i64, u32),
    /// A hash of its [`Fingerprint`].
    fingerprint: u128,
    /// The hash of its content; `None`: not computed.
    digest: Option<Digest>,
    reuse: MtimeReuse,
}

/// Which part of an mtime other contents had, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MtimeReuse {
    /// None that was seen.
    None,
    /// Its second: it makes no date.
    Second,
    /// All of it: it makes no validator.
    Time,
}

static NAMES: LazyLock<Mutex<unsync::Cache<u128, Version>>> =
    LazyLock::new(|| Mutex::new(unsync::Cache::new(NAMES_MAX)));

/// Records the current version of `name` below `root`, and returns how far its mtime was reused.
pub(crate) fn record(root: &Path, name: &CStr, stat: &Statx, digest: Option<Digest>) -> MtimeReuse {
    let version = Version {
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        fingerprint: hash(&Fingerprint::of(stat)),
        digest,
        reuse: MtimeReuse::None,
    };
    let key = hash(&(root.as_os_str().as_bytes(), name));
    // A panic leaves the table consistent, so a poisoned lock is usable.
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let before = names.get(&key).copied();
    let version = before.map_or(version, |before| before.then(version));
    if before != Some(version) {
        names.insert(key, version);
    }
    version.reuse
}

impl Version {
    /// `next`, which follows this one.
    fn then(self, next: Self) -> Self {
        let reuse = if self.modified == next.modified {
            self.reuse_at_same_time(&next)
        } else if self.modified.0 == next.modified.0 {
            self.reuse_in_same_second(&next)
        } else {
            MtimeReuse::None
        };
        // A version without a digest keeps that of the same fingerprint for later comparisons.
        let kept = self.digest.filter(|_| self.fingerprint == next.fingerprint);
        Self {
            reuse,
            digest: next.digest.or(kept),
            ..next
        }
    }

    /// Whether both have one content, as far as can be told.
    fn has_content_of(&self, next: &Self) -> bool {
        match (self.digest, next.digest) {
            (Some(before), Some(now)) => before == now,
            (None, _) | (_, None) => self.fingerprint == next.fingerprint,
        }
    }

    fn reuse_at_same_time(&self, next: &Self) -> MtimeReuse {
        if self.has_content_of(next) {
            self.reuse
        } else {
            MtimeReuse::Time
        }
    }

    fn reuse_in_same_second(&self, next: &Self) -> MtimeReuse {
        if self.has_content_of(next) && self.reuse == MtimeReuse::None {
            MtimeReuse::None
        } else {
            MtimeReuse::Second
        }
    }
}

fn hash(value: &impl Hash) -> u128 {
    let mut hasher = Xxh3::new();
    value.hash(&mut HashWriter(&mut hasher));
    hasher.digest128()
}

/// Feeds an [`Xxh3`], whose [`Hasher`] implementation yields 64 bits only.
struct HashWriter<'a>(&'a mut Xxh3);

impl Hasher for HashWriter<'_> {
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
        use MtimeReuse::{None as Unused, Second, Time};
        let version = |modified, content, reuse| Version {
            modified,
            fingerprint: 1,
            digest: Some([content; 16]),
            reuse,
        };
        // Before, next, and how much of the time is reused then.
        let cases = [
            (version((5, 1), 1, Unused), ((5, 1), 1), Unused),
            (version((5, 1), 1, Unused), ((5, 1), 2), Time),
            (version((5, 1), 1, Time), ((5, 1), 1), Time),
            (version((5, 1), 1, Unused), ((6, 1), 2), Unused),
            (version((5, 1), 1, Time), ((6, 1), 1), Unused),
            (version((5, 1), 1, Unused), ((5, 2), 1), Unused),
            (version((5, 1), 1, Unused), ((5, 2), 2), Second),
            (version((5, 1), 1, Time), ((5, 2), 1), Second),
            (version((5, 1), 1, Second), ((5, 1), 1), Second),
            (version((5, 1), 1, Second), ((5, 1), 2), Time),
            (version((5, 1), 1, Second), ((5, 2), 1), Second),
            (version((5, 1), 1, Second), ((6, 1), 2), Unused),
        ];
        for (before, (modified, content), reuse) in cases {
            let next = version(modified, content, Unused);
            let expected = Version { reuse, ..next };
            assert_eq!(before.then(next), expected, "{before:?} {next:?}");
        }
    }

    #[test]
    fn contents_are_compared_where_both_are_known() {
        let version = |fingerprint, content: Option<u8>| Version {
            modified: (5, 1),
            fingerprint,
            digest: content.map(|content| [content; 16]),
            reuse: MtimeReuse::None,
        };
        // Before, next, whether they have one content, and the digest that is kept.
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
            let reuse = if one {
                MtimeReuse::None
            } else {
                MtimeReuse::Time
            };
            let place = format!("{before:?} {next:?}");
            assert_eq!(after.reuse, reuse, "{place}");
            assert_eq!(after.digest, known.map(|content| [content; 16]), "{place}");
        }
    }

    #[test]
    fn a_name_is_one_of_its_root() {
        let root = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile().unwrap();
        let flags = rustix::fs::AtFlags::EMPTY_PATH;
        let stat = rustix::fs::statx(&file, c"", flags, crate::file::stat::FIELDS).unwrap();
        let is_reused =
            |root: &Path, name, digest| record(root, name, &stat, digest) != MtimeReuse::None;
        assert!(!is_reused(root.path(), c"a", Some([1; 16])));
        assert!(!is_reused(root.path(), c"b", Some([2; 16])));
        assert!(!is_reused(&root.path().join("a"), c"a", Some([2; 16])));
        assert!(!is_reused(root.path(), c"a", Some([1; 16])));
        assert!(is_reused(root.path(), c"a", Some([2; 16])));
        assert!(is_reused(root.path(), c"a", Some([1; 16])));
        assert!(!is_reused(root.path(), c"large", None));
        assert!(!is_reused(root.path(), c"large", None));
    }
}
