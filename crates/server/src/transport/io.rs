//! A core's ring, pipes and record buffer, for I/O on sockets and files.

use std::cell::{RefCell, RefMut};
use std::io;
use std::rc::Rc;

use tidegate_sendfile::{Pool, PoolConfig};
use tidegate_uring::{PagePipe, Ring};

/// The ring of a core, its pipes for splice(2) and vmsplice(2), and its buffer for TLS records.
pub(crate) struct Io {
    pub(crate) ring: Ring,
    pub(crate) pipes: Rc<Pool>,
    pub(super) page_pipe: PagePipe,
    /// Holds records that are built and sent without an await in between.
    records: RefCell<Vec<u8>>,
}

impl Io {
    /// Makes the pipes. The workers of `ring` must have been started.
    pub(crate) async fn new(ring: Ring, pipes: PoolConfig) -> io::Result<Self> {
        let pipes = Pool::new(&ring, pipes).await?;
        Ok(Self {
            ring,
            pipes,
            page_pipe: PagePipe::default(),
            records: RefCell::default(),
        })
    }

    /// The buffer for TLS records. It may hold old bytes.
    pub(super) fn records(&self) -> RefMut<'_, Vec<u8>> {
        self.records.borrow_mut()
    }
}
