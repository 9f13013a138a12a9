//! A core's ring and pipes: what sockets and files are read and written by.

use std::io;
use std::rc::Rc;

use tidegate_sendfile::{Pool, PoolConfig};
use tidegate_uring::Ring;

/// The ring of a core, and its pipes for splice(2).
pub(crate) struct Io {
    pub(crate) ring: Ring,
    pub(crate) pipes: Rc<Pool>,
}

impl Io {
    /// Makes the pipes. The workers of `ring` must have been started.
    pub(crate) async fn new(ring: Ring, pipes: PoolConfig) -> io::Result<Self> {
        let pipes = Pool::new(&ring, pipes).await?;
        Ok(Self { ring, pipes })
    }
}
