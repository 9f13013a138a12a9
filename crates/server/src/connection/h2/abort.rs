//! Cancels work that nobody waits for any more.

use futures_util::future::{AbortHandle, AbortRegistration};

/// Dropped: the work is cancelled.
pub(super) struct Abort(AbortHandle);

impl Abort {
    /// One, and what makes work depend on it.
    pub(super) fn new() -> (Self, AbortRegistration) {
        let (handle, registration) = AbortHandle::new_pair();
        (Self(handle), registration)
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}
