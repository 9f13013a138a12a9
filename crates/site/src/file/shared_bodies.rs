//! The bytes of small files, once in memory for all cores.
//!
//! Each core has its own cache entry for a file, and a hit touches nothing else: no lock, and no
//! reference count that another core writes. A core uses this table when it loads a file and when
//! it drops the bytes of one.
//!
//! # Why the bytes are the content of the file
//!
//! The key is the [`Fingerprint`] from before the read: device, inode, length, mtime and ctime.
//! Nobody can set the ctime, and the kernel updates it before it changes a byte. If the file
//! changed between statx and read, the bytes are of a newer version than their fingerprint. That is
//! harmless if no later statx yields the same fingerprint: a core that finds these bytes made its
//! statx before the change, as if it had read the file itself, and its next statx shows the change.
//!
//! A later statx differs if every change leaves later times. So two kinds of files are not shared,
//! and each core reads them itself: those whose times are so recent that one more change may leave
//! the same times, and those with a placeholder ctime (before 1990), as in file system images: an
//! image mounted in place of another may differ in content alone.
//!
//! Some writes change no time: through a memory map, or delayed for long between the update of the
//! times and the copy of the bytes. A core that reads in the middle of one keeps the bytes until
//! the next change, and so do the cores that share them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::file::long_memory::Held;
use crate::file::memory::{FileBytes, Storage};
use crate::file::stat::Fingerprint;

/// The last owner of the bytes removes the entry.
static BODIES: LazyLock<Mutex<HashMap<Fingerprint, Weak<Body>>>> = LazyLock::new(Mutex::default);

/// The content of a file.
struct Body {
    fingerprint: Fingerprint,
    storage: Storage,
}

/// The share of one core.
struct BodyRef {
    body: Arc<Body>,
    _held: Option<Held>,
}

/// The bytes of a file, if any core has them.
pub(crate) fn find(fingerprint: &Fingerprint) -> Option<Shared> {
    let body = bodies().get(fingerprint)?.upgrade()?;
    Some(Shared(body))
}

/// Shares bytes, read after the statx of `fingerprint`. If another core was first, returns its
/// bytes and drops these.
pub(crate) fn share(fingerprint: Fingerprint, storage: Storage) -> Shared {
    let body = Arc::new(Body {
        fingerprint,
        storage,
    });
    Shared(first(&body).unwrap_or(body))
}

/// The body in the table; `None`: `body` was inserted.
fn first(body: &Arc<Body>) -> Option<Arc<Body>> {
    match bodies().entry(body.fingerprint) {
        Entry::Occupied(mut entry) => {
            let found = entry.get().upgrade();
            if found.is_none() {
                entry.insert(Arc::downgrade(body));
            }
            found
        }
        Entry::Vacant(entry) => {
            entry.insert(Arc::downgrade(body));
            None
        }
    }
}

/// Bytes that other cores may have, too.
pub(crate) struct Shared(Arc<Body>);

impl Shared {
    /// The bytes, without a copy. Every reference to them that this core makes keeps `held`.
    pub(crate) fn hold(self, held: Option<Held>) -> FileBytes {
        let body = Arc::clone(&self.0);
        let bytes = Bytes::from_owner(BodyRef { body, _held: held });
        FileBytes::of(&self.0.storage, bytes)
    }
}

impl AsRef<[u8]> for BodyRef {
    fn as_ref(&self) -> &[u8] {
        &self.body.storage
    }
}

impl Drop for Body {
    /// A core that found the weak reference dead may have replaced it.
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = bodies().entry(self.fingerprint)
            && std::ptr::eq(entry.get().as_ptr(), self)
        {
            entry.remove();
        }
    }
}

/// A panic leaves the table consistent, so a poisoned lock is usable. No body is dropped under the
/// lock, which its drop takes.
fn bodies() -> MutexGuard<'static, HashMap<Fingerprint, Weak<Body>>> {
    BODIES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::fs::{AtFlags, statx};

    use super::*;
    use crate::file::stat::FIELDS;

    /// One that no other test has.
    fn fingerprint() -> (std::fs::File, Fingerprint) {
        let file = tempfile::tempfile().unwrap();
        let stat = statx(&file, c"", AtFlags::EMPTY_PATH, FIELDS).unwrap();
        (file, Fingerprint::of(&stat))
    }

    fn storage(bytes: &[u8]) -> Storage {
        Storage::new(bytes.to_vec(), false)
    }

    fn is_noted(fingerprint: &Fingerprint) -> bool {
        bodies().contains_key(fingerprint)
    }

    #[test]
    fn the_first_bytes_are_everybodys_until_the_last_lets_go() {
        let (_file, fingerprint) = fingerprint();
        assert!(find(&fingerprint).is_none());
        let ours = share(fingerprint, storage(b"body")).hold(None);
        let (found, shared) = thread::spawn(move || {
            let found = find(&fingerprint).unwrap().hold(None);
            (found, share(fingerprint, storage(b"body")).hold(None))
        })
        .join()
        .unwrap();
        assert_eq!(**found, *b"body");
        assert_eq!(found.as_ptr(), ours.as_ptr());
        assert_eq!(shared.as_ptr(), ours.as_ptr());
        drop((ours, shared));
        assert!(is_noted(&fingerprint));
        drop(found);
        assert!(!is_noted(&fingerprint));
    }

    #[test]
    fn what_is_let_go_takes_no_successor_with_it() {
        let (_file, fingerprint) = fingerprint();
        let gone = Arc::new(Body {
            fingerprint,
            storage: storage(b"a"),
        });
        let successor = share(fingerprint, storage(b"b")).hold(None);
        drop(gone);
        assert_eq!(
            find(&fingerprint).unwrap().hold(None).as_ptr(),
            successor.as_ptr()
        );
    }

    #[test]
    fn cores_that_come_and_go_leave_nothing_behind() {
        let (_file, fingerprint) = fingerprint();
        let core = || {
            for _ in 0..10_000 {
                let bytes =
                    find(&fingerprint).unwrap_or_else(|| share(fingerprint, storage(b"body")));
                assert_eq!(**bytes.hold(None), *b"body");
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(core);
            }
        });
        assert!(!is_noted(&fingerprint));
    }
}
