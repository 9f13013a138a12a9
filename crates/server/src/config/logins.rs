//! The clients of one core that have logged in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use futures_util::future::{FutureExt, LocalBoxFuture, Shared, WeakShared};
use tidegate_access::Tag;

use crate::config::credentials::make_room;
use crate::throttle::Throttle;

/// The clients of one core that have logged in, for all its snapshots. A flood of wrong passwords evicts none.
#[derive(Default)]
pub(crate) struct Logins {
    verified: RefCell<HashMap<Tag, Verified>>,
    /// Verifications in progress that somebody waits for.
    verifications: RefCell<HashMap<Tag, WeakShared<Verification>>>,
    /// Failures since the last warning.
    failures: Cell<u64>,
    warnings: Throttle,
}

/// The result of verifying a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is remembered until then, exclusive.
    Right(Instant),
    Wrong,
    /// Too many are being verified.
    Busy,
}

type Verification = LocalBoxFuture<'static, Verdict>;

/// A verification in progress, which its end removes from the table.
struct InProgress {
    logins: Rc<Logins>,
    tag: Tag,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.logins.verifications.borrow_mut().remove(&self.tag);
    }
}

/// A login that is right.
pub(crate) struct Verified {
    pub(crate) name: Rc<str>,
    /// Exclusive.
    pub(crate) until: Instant,
}

impl Logins {
    /// The name of the login with this tag, if it was verified lately.
    pub(crate) fn find(&self, tag: Tag, now: Instant) -> Option<Rc<str>> {
        let verified = self.verified.borrow();
        let verified = verified.get(&tag).filter(|verified| now < verified.until)?;
        Some(Rc::clone(&verified.name))
    }

    /// The verification in progress of the login with this tag, or `verify` as a new one: all
    /// requests with one login wait for one verification.
    ///
    /// Dropped: it goes on for the others that wait; the last one drops `verify`.
    pub(crate) fn join(
        self: &Rc<Self>,
        tag: Tag,
        verify: impl Future<Output = Verdict> + 'static,
    ) -> Shared<Verification> {
        let running = self.verifications.borrow().get(&tag).cloned();
        if let Some(running) = running.and_then(|running| running.upgrade()) {
            return running;
        }
        let in_progress = InProgress {
            logins: Rc::clone(self),
            tag,
        };
        let verification = async move {
            let _in_progress = in_progress;
            verify.await
        };
        let verification = verification.boxed_local().shared();
        let started = verification.downgrade().map(|started| (tag, started));
        self.verifications.borrow_mut().extend(started);
        verification
    }

    /// Remembers a login until its expiry, or until there are too many.
    pub(crate) fn insert(&self, tag: Tag, verified: Verified) {
        let mut table = self.verified.borrow_mut();
        make_room(&mut table, Instant::now(), |verified| verified.until);
        table.insert(tag, verified);
    }

    /// Counts a wrong name or password. Clients choose names: they are not logged here.
    pub(crate) fn count_failure(&self, client: Option<IpAddr>) {
        self.failures.set(self.failures.get() + 1);
        if self.warnings.is_due() {
            let failures = self.failures.take();
            let client = client.map(tracing::field::display);
            tracing::warn!(
                failures,
                client,
                "wrong names or passwords; this is the last client"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_lite::future::{block_on, pending, poll_once, yield_now};
    use tidegate_access::{Login, TagKey, Users};

    use super::*;

    fn tags() -> [Tag; 2] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = "$2y$04$vNRn6DdeOhrr5BRK36GuteHuWywI2Aqa50ASQeZIf6b2XKUNrqmqi";
        std::fs::write(file.path(), format!("ann:{hash}\n")).unwrap();
        let (users, key) = (Users::read(file.path()).unwrap(), TagKey::new().unwrap());
        [b"Basic YTpi", b"Basic YTpj"].map(|value| users.tag(&Login::parse(value).unwrap(), &key))
    }

    #[test]
    fn one_verification_is_for_all_who_wait() {
        let (logins, [tag, other]) = (Rc::new(Logins::default()), tags());
        let right = Verdict::Right(Instant::now() + Duration::from_secs(1));
        let started = Rc::new(Cell::new(0));
        let verify = |verdict| {
            let started = Rc::clone(&started);
            async move {
                started.set(started.get() + 1);
                yield_now().await;
                verdict
            }
        };
        block_on(async {
            let mut first = logins.join(tag, verify(right));
            assert!(poll_once(&mut first).await.is_none());
            let (second, third) = (
                logins.join(tag, verify(Verdict::Busy)),
                logins.join(other, verify(Verdict::Wrong)),
            );
            // The one that began goes, and those that wait go on.
            drop(first);
            assert_eq!(second.await, right);
            assert_eq!(third.await, Verdict::Wrong);
            assert_eq!(started.get(), 2);
            assert_eq!(logins.join(tag, verify(Verdict::Busy)).await, Verdict::Busy);
        });
        assert!(logins.verifications.borrow().is_empty());
    }

    #[test]
    fn a_verification_that_nobody_waits_for_is_dropped() {
        let (logins, [tag, _]) = (Rc::new(Logins::default()), tags());
        let first = logins.join(tag, pending());
        let second = logins.join(tag, pending());
        drop((first, second));
        assert!(logins.verifications.borrow().is_empty());
    }
}
