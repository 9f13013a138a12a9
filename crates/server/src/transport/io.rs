//! What a core does I/O with.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use tidegate_sendfile::Pool;
use tidegate_uring::Ring;

/// A core's ring, its pipes and its buffer for TLS records.
pub(crate) struct Io {
    pub(crate) ring: Ring,
    pub(crate) pipes: Rc<Pool>,
    /// Records that are built and sent without waiting in between.
    records: RefCell<Vec<u8>>,
}

impl Io {
    pub(crate) fn new(ring: Ring, pipes: Rc<Pool>) -> Self {
        Self {
            ring,
            pipes,
            records: RefCell::default(),
        }
    }

    /// The buffer for TLS records, whatever is in it.
    pub(super) fn records(&self) -> RefMut<'_, Vec<u8>> {
        self.records.borrow_mut()
    }
}
