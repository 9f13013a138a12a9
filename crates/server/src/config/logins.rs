//! The clients of one core that have logged in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use tidegate_access::Tag;

use crate::config::credentials::make_room;
use crate::throttle::Throttle;

/// The clients of one core that have logged in. A flood of wrong passwords evicts none.
#[derive(Default)]
pub(crate) struct Logins {
    verified: RefCell<HashMap<Tag, Verified>>,
    /// Failures since the last warning.
    failures: Cell<u64>,
    warnings: Throttle,
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
