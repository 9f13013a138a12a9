//! Whether the disk takes writes. After an error nobody tries for a while, so that a broken disk
//! costs the requests nothing.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long nothing is tried.
const PAUSE: Duration = Duration::from_secs(5);

/// What to do about a write.
#[derive(Debug)]
pub(super) enum Advice {
    Write,
    /// The pause is over: the caller is the only one to try the disk.
    Probe,
    /// The error that the disk had.
    Fail(&'static str, io::Error),
}

#[derive(Debug, Default)]
pub(super) struct Health {
    broken: Mutex<Option<Broken>>,
}

#[derive(Clone, Copy, Debug)]
struct Broken {
    operation: &'static str,
    /// [`io::Error`] is not [`Clone`].
    errno: Errno,
    until: Instant,
}

impl Health {
    /// Whether writes are tried.
    pub(super) fn is_writable(&self, now: Instant) -> bool {
        self.with(|broken| broken.is_none_or(|broken| broken.until <= now))
    }

    /// What a write is to do. Who gets [`Advice::Probe`] must call one of the two below, or else
    /// the next one gets it after another pause.
    pub(super) fn advise(&self, now: Instant) -> Advice {
        self.with(|state| match state {
            None => Advice::Write,
            Some(broken) if broken.until <= now => {
                broken.until = now + PAUSE;
                Advice::Probe
            }
            Some(broken) => Advice::Fail(broken.operation, broken.errno.into()),
        })
    }

    /// An operation failed. Errors that are not the disk's are ignored. Whether that is news.
    pub(super) fn fail(&self, operation: &'static str, error: &io::Error, now: Instant) -> bool {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        if is_of_process(errno) {
            return false;
        }
        let broken = Broken {
            operation,
            errno,
            until: now + PAUSE,
        };
        self.with(|state| state.replace(broken).is_none())
    }

    /// The disk took a write. Whether that is news.
    pub(super) fn recover(&self) -> bool {
        self.with(|state| state.take().is_some())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Option<Broken>) -> T) -> T {
        change(&mut self.broken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Out of descriptors or memory, a signal, a limit of one file.
fn is_of_process(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::FBIG
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tries_after_each_pause() {
        let start = Instant::now();
        let health = Health::default();
        assert!(matches!(health.advise(start), Advice::Write));
        assert!(health.fail("write", &Errno::IO.into(), start));
        assert!(!health.fail("write", &Errno::ROFS.into(), start));
        assert!(!health.is_writable(start));
        let Advice::Fail("write", error) = health.advise(start) else {
            panic!("it is tried");
        };
        assert_eq!(Errno::from_io_error(&error), Some(Errno::ROFS));
        let later = start + PAUSE;
        assert!(health.is_writable(later));
        assert!(matches!(health.advise(later), Advice::Probe));
        assert!(matches!(health.advise(later), Advice::Fail(..)));
        assert!(matches!(health.advise(later + PAUSE), Advice::Probe));
        assert!(health.recover());
        assert!(!health.recover());
        assert!(health.is_writable(start));
    }

    #[test]
    fn errors_of_the_process_are_not_the_disks() {
        let cases = [
            (Errno::IO, false),
            (Errno::ROFS, false),
            (Errno::NOSPC, false),
            (Errno::DQUOT, false),
            (Errno::MFILE, true),
            (Errno::FBIG, true),
        ];
        for (errno, expected) in cases {
            let health = Health::default();
            let now = Instant::now();
            health.fail("write", &errno.into(), now);
            assert_eq!(health.is_writable(now), expected, "{errno}");
        }
    }
}
