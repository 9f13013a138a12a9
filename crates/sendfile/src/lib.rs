//! An asynchronous sendfile for glommio: file to pipe to socket by splice(2), without the bytes
//! ever being in user space, and without a slow disk or a slow peer ever holding the core.
//!
//! ```text
//!                    in memory: splice(2) on the core, nonblocking
//!   file (a chunk) --------------------------------------------------> pipe -----> socket
//!      |             else: splice on a worker of the op ring             |  splice(2) on the core,
//!      +--------------------------------------------------------------->+  nonblocking; when the
//!        and the chunk after it is read ahead                              socket is full, poll
//! ```
//!
//! A chunk is what one pipe holds. Whether it is in memory is probed (`preadv2` with `RWF_NOWAIT`)
//! before it is spliced, since `SPLICE_F_NONBLOCK` does not keep splice(2) from waiting for the
//! disk. The ring's splice always runs on a worker thread, which makes it right for the disk and
//! a detour for memory. The probes look at a byte for every 64 KiB: a hole between two of them, or
//! a page evicted in the instant after, makes the core wait for one read of the disk.
//!
//! A transfer gives way to the other tasks of its executor after 512 KiB, and whenever it waits, so
//! many of them share the core evenly. A shorter one may complete without giving way at all.
//!
//! Pipes come from a [`Pool`] for each executor. A pipe that still holds bytes when its transfer
//! ends is closed, never reused.
//!
//! [`sendfile_encoded`] sends bytes that must be transformed first, as by TLS in user space:
//! through memory, with the same care for the disk, the peer and the other tasks.
//!
//! # Conditions
//!
//! * The socket carries `O_NONBLOCK`. Without it splice(2) waits for the peer, whatever its flags
//!   say, and the core with it.
//! * `SIGPIPE` is ignored, as it is in every Rust program that does not change it: splice(2) has
//!   no `MSG_NOSIGNAL`.
//! * Nobody else writes to the socket meanwhile. A head sent before may carry `MSG_MORE`.
//!
//! # Example
//!
//! ```
//! use std::io::{Read, Write};
//! use std::os::fd::OwnedFd;
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//!
//! use glommio::{LocalExecutorBuilder, Placement};
//! use tidegate_sendfile::{Opening, Options, Pool, PoolConfig, sendfile};
//! use tidegate_uring::{Config, Fd, Ring};
//!
//! LocalExecutorBuilder::new(Placement::Unbound)
//!     .make()
//!     .unwrap()
//!     .run(async {
//!         let ring = Ring::start(&Config::default()).unwrap();
//!         let config = PoolConfig {
//!             pipe_bytes: 256 * 1024,
//!             pipes_max: 128,
//!             pages_max: tidegate_sendfile::pages_of_user(1),
//!             cold_max: 16,
//!         };
//!         let pool = Pool::new(&ring, config).await.unwrap();
//!
//!         let mut file = tempfile::tempfile().unwrap();
//!         file.write_all(b"hello, world").unwrap();
//!         let (mut peer, socket) = UnixStream::pair().unwrap();
//!         socket.set_nonblocking(true).unwrap();
//!
//!         let (socket, file) = (OwnedFd::from(socket), OwnedFd::from(file));
//!         let options = Options {
//!             stall: Duration::from_secs(60),
//!             drop_behind: false,
//!             unread: true,
//!             device: 0,
//!             opening: Opening::NONE,
//!         };
//!         sendfile(&ring, &pool, &Fd::from(socket), &Fd::from(file), 7..12, &options)
//!             .await
//!             .unwrap();
//!
//!         let mut received = String::new();
//!         peer.read_to_string(&mut received).unwrap();
//!         assert_eq!(received, "world");
//!     });
//! ```

mod budget;
mod buffers;
mod by_thread;
mod cork;
mod drop_behind;
mod encoding;
mod error;
mod fair_queue;
mod file_source;
mod options;
mod pipe;
mod pool;
mod popularity;
mod queue;
mod readahead;
mod residency;
mod semaphore;
mod sending;
mod socket_sink;
mod stall;
mod transfer;

use std::io;
use std::ops::Range;
use std::rc::Rc;

use tidegate_uring::{Fd, Ring};

pub use budget::{PoolConfig, pages_of_user};
pub use error::{Error, ErrorKind};
pub use options::{Opening, Options};
pub use pool::{LATE_FILES_MAX, Pool, PoolStats};

use crate::encoding::Encoding;
use crate::sending::Sending;

/// How a transfer that sent its whole range went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// A part of the range was not in memory when it was needed. (A part that was prefetched in
    /// time counts as in memory.)
    pub from_disk: bool,
}

/// Sends the bytes of `file` from `range.start` to `range.end` (exclusive) to `socket`.
///
/// The file's own position is neither used nor moved. The last bytes are sent without
/// `SPLICE_F_MORE`, those before them with it. An empty range sends nothing and succeeds.
///
/// # Errors
///
/// [`Error::sent`] says how many bytes the socket took before, [`Error::kind`] what happened then.
///
/// # Cancel safety
///
/// Dropped: bytes that the socket took are sent, how many is not told. A pipe with bytes in it is
/// closed and the pool may make another at once, even if a worker of the ring is still reading
/// into the old one: until the disk answers there may be as many pipes too many as the ring has
/// workers. The last few MiB that were brought in are not given back.
pub async fn sendfile(
    ring: &Ring,
    pool: &Rc<Pool>,
    socket: &Fd,
    file: &Fd,
    range: Range<u64>,
    options: &Options,
) -> Result<Sent, Error> {
    debug_assert!(is_nonblocking(socket), "the socket carries O_NONBLOCK");
    let mut sending = Sending::new(ring, pool, socket, file, range, options);
    let result = sending.run().await;
    let (sent, from_disk) = (sending.sent(), sending.met_disk());
    sending.finish();
    told(result, sent, from_disk)
}

/// Sends the bytes of `file` from `range.start` to `range.end` (exclusive) to `socket` as `encode`
/// makes them, as for TLS in user space: they are read into memory, a piece at a time, encoded and
/// sent.
///
/// `encode` is given the next bytes of the file and a buffer; it puts what is to be sent at the
/// buffer's start, whatever is there, makes it longer if it must, and returns how many bytes that
/// are. Encoded pieces are sent in order, each completely before the next is encoded.
///
/// As with [`sendfile`], neither a slow disk nor a slow peer blocks the core: bytes in memory are
/// read on the core, others by a worker of the ring. `MSG_MORE` is set on all but the last bytes. A
/// transfer holds one encoded piece while its socket is full.
///
/// # Errors
///
/// As for [`sendfile`]; [`Error::sent`] counts bytes of the file whose pieces were taken whole.
///
/// # Cancel safety
///
/// Dropped: bytes that the socket took are sent, how many is not told, and an encoded piece may be
/// lost in part. The last few MiB that were brought in are not given back.
pub async fn sendfile_encoded(
    ring: &Ring,
    pool: &Rc<Pool>,
    socket: &Fd,
    file: &Fd,
    range: Range<u64>,
    options: &Options,
    encode: impl FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>,
) -> Result<Sent, Error> {
    let mut encoding = Encoding::new(ring, pool, (socket, file), range, options, encode);
    let result = encoding.run().await;
    let (sent, from_disk) = (encoding.sent(), encoding.met_disk());
    encoding.finish();
    told(result, sent, from_disk)
}

fn told(result: Result<(), ErrorKind>, sent: u64, from_disk: bool) -> Result<Sent, Error> {
    match result {
        Ok(()) => Ok(Sent { from_disk }),
        Err(kind) => Err(Error { sent, kind }),
    }
}

fn is_nonblocking(socket: &Fd) -> bool {
    rustix::fs::fcntl_getfl(socket).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK))
}
