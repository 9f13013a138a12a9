//! The bytes of small files, which are in memory once, however many cores serve them.
//!
//! Every core's cache has its own entry for a file, and a hit looks at nothing else: it reads bytes
//! that nobody writes, and touches no lock and no count that another core touches. The table here
//! knows which bytes there are; a core comes to it when it loads a file and when it lets go of the
//! bytes of one.
//!
//! # Why what is found is the file's content
//!
//! Bytes are found by the [`Fingerprint`] under which they were read: device, inode, length, time of
//! modification and time of change. The last is the kernel's own and nobody can set it. The kernel
//! sets it before it changes a byte, so if anything was changed between the look at a file and the
//! read of it, the bytes are those of a newer version under the identity of an older one. That does
//! no harm here if no later look can yield that identity: whoever finds such bytes has looked before
//! the change, as if it had read the file itself, and its next look tells it.
//!
//! No later look can, if a change always leaves a later time than the one that was seen. So files are
//! not shared whose times are so recent that one more change may leave the same ones, and those whose
//! time of change is made up (before 1990), as in file systems that are images: one that is mounted in
//! place of another may have the same of everything but the content. Such files are read by each core
//! for itself.
//!
//! What no time tells, nobody sees: a write through a memory map, or one that is held up for long between
//! setting the time and bringing its bytes. A core that reads a file in the midst of one keeps what it
//! read until the next change, and so do those that share it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use crate::file::stat::Fingerprint;

/// The bytes that any core has. An entry leaves with the last of those who hold them.
static BODIES: LazyLock<Mutex<HashMap<Fingerprint, Weak<Body>>>> = LazyLock::new(Mutex::default);

/// The content of a file, once for all cores.
struct Body {
    identity: Fingerprint,
    bytes: Vec<u8>,
}

/// A core's hold on it.
struct Held(Arc<Body>);

/// The bytes of a file that somebody has.
pub(crate) fn find(identity: &Fingerprint) -> Option<Bytes> {
    let body = bodies().get(identity)?.upgrade()?;
    Some(hold(body))
}

/// Lets others find `bytes`, which were read from the file after it was looked at. Yields those of
/// whoever was first, and they are dropped.
pub(crate) fn share(identity: Fingerprint, bytes: Vec<u8>) -> Bytes {
    let body = Arc::new(Body { identity, bytes });
    hold(first(&body).unwrap_or(body))
}

/// Whose bytes are there already; if nobody's, `body` is.
fn first(body: &Arc<Body>) -> Option<Arc<Body>> {
    match bodies().entry(body.identity) {
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

/// With the address of the bytes in it, as if they were its own.
fn hold(body: Arc<Body>) -> Bytes {
    Bytes::from_owner(Held(body))
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Drop for Body {
    /// Whoever found it gone meanwhile may have put its own in its place.
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = bodies().entry(self.identity)
            && std::ptr::eq(entry.get().as_ptr(), self)
        {
            entry.remove();
        }
    }
}

/// Nothing is half done when a thread panics with the lock. No body is dropped under it.
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
    fn identity() -> (std::fs::File, Fingerprint) {
        let file = tempfile::tempfile().unwrap();
        let stat = statx(&file, c"", AtFlags::EMPTY_PATH, FIELDS).unwrap();
        (file, Fingerprint::of(&stat))
    }

    fn is_noted(identity: &Fingerprint) -> bool {
        bodies().contains_key(identity)
    }

    #[test]
    fn the_first_bytes_are_everybodys_until_the_last_lets_go() {
        let (_file, identity) = identity();
        assert!(find(&identity).is_none());
        let ours = share(identity, b"body".to_vec());
        let (found, shared) = thread::spawn(move || {
            let found = find(&identity).unwrap();
            (found, share(identity, b"body".to_vec()))
        })
        .join()
        .unwrap();
        assert_eq!(found, "body");
        assert_eq!(found.as_ptr(), ours.as_ptr());
        assert_eq!(shared.as_ptr(), ours.as_ptr());
        drop((ours, shared));
        assert!(is_noted(&identity));
        drop(found);
        assert!(!is_noted(&identity));
    }

    #[test]
    fn what_is_let_go_takes_no_successor_with_it() {
        let (_file, identity) = identity();
        let gone = Arc::new(Body {
            identity,
            bytes: b"a".to_vec(),
        });
        let successor = share(identity, b"b".to_vec());
        drop(gone);
        assert_eq!(find(&identity).unwrap().as_ptr(), successor.as_ptr());
    }

    #[test]
    fn cores_that_come_and_go_leave_nothing_behind() {
        let (_file, identity) = identity();
        let core = || {
            for _ in 0..10_000 {
                let bytes = find(&identity).unwrap_or_else(|| share(identity, b"body".to_vec()));
                assert_eq!(bytes, "body");
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(core);
            }
        });
        assert!(!is_noted(&identity));
    }
}
