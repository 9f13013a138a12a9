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
//! [`sendfile`] sends a range at once. A [`Transfer`] sends it in steps, between which the caller
//! may write other bytes to the socket or wait. [`sendfile_encoded`] and
//! [`Transfer::step_encoded`] send bytes that must be transformed first, as by TLS in user space:
//! through memory, with the same care for the disk, the peer and the other tasks.
//!
//! A [`FileReader`] reads into buffers of the caller, for a protocol that mixes several bodies on
//! one socket.
//!
//! # Conditions
//!
//! * The socket carries `O_NONBLOCK`. Without it splice(2) waits for the peer, whatever its flags
//!   say, and the core with it.
//! * `SIGPIPE` is ignored, as it is in every Rust program that does not change it: splice(2) has
//!   no `MSG_NOSIGNAL`.
//! * Nothing else is written to the socket during a step. A head sent before may carry `MSG_MORE`.
//!
//! # Example
//!
//! ```
//! use std::io::{Read, Write};
//! use std::os::fd::OwnedFd;
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//!
//! use tidegate_sendfile::{Opening, Options, Pool, PoolConfig, sendfile};
//! use tidegate_uring::executor::Executor;
//! use tidegate_uring::{Config, Fd, Ring};
//!
//! Executor::new("example", 1)
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
mod encoded_staging;
mod error;
mod fair_queue;
mod file_reader;
mod file_source;
mod options;
mod pipe;
mod pipe_staging;
mod pool;
mod popularity;
mod progress;
mod pump;
mod queue;
mod readahead;
mod residency;
mod semaphore;
mod send_pages;
mod socket_sink;
mod staging;
mod stall;
mod transfer;

use std::io;
use std::ops::Range;
use std::rc::Rc;

use tidegate_uring::{Fd, Ring};

pub use budget::{PoolConfig, pages_of_user};
pub use encoded_staging::ENCODED_PIECE_BYTES;
pub use error::{Error, ErrorKind};
pub use file_reader::FileReader;
pub use options::{Opening, Options, Step};
pub use pool::{LATE_FILES_MAX, Pool, PoolStats};
pub use send_pages::send_pages;
pub use transfer::{Sent, Transfer};

/// Sends the bytes of `file` from `range.start` to `range.end` (exclusive) to `socket`: a
/// [`Transfer`] of one step.
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
/// Dropped: it is unknown how many bytes were sent; otherwise as for [`Transfer`].
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub fn sendfile(
    ring: &Ring,
    pool: &Rc<Pool>,
    socket: &Fd,
    file: &Fd,
    range: Range<u64>,
    options: &Options,
) -> impl Future<Output = Result<Sent, Error>> {
    async move {
        let mut transfer = Transfer::new(ring, pool, file, range, options);
        let result = transfer.step(socket, Step::ALL).await;
        let sent = transfer.end();
        result.map(|()| sent)
    }
}

/// Sends the bytes of `file` from `range.start` to `range.end` (exclusive) to `socket` as `encode`
/// makes them: a [`Transfer`] of one step, for whose arguments see [`Transfer::step_encoded`].
///
/// As with [`sendfile`], neither a slow disk nor a slow peer blocks the core: bytes in memory are
/// read on the core, others by a worker of the ring. `MSG_MORE` is set on all but the last bytes. A
/// transfer holds one encoded piece while its socket is full.
///
/// # Errors
///
/// As for [`sendfile`]; [`Error::sent`] counts bytes of pieces that the socket took as a whole.
///
/// # Cancel safety
///
/// Dropped: it is unknown how many bytes were sent, and a part of an encoded piece may be lost;
/// otherwise as for [`Transfer`].
pub async fn sendfile_encoded(
    ring: &Ring,
    pool: &Rc<Pool>,
    socket: &Fd,
    file: &Fd,
    range: Range<u64>,
    options: &Options,
    encode: impl FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>,
) -> Result<Sent, Error> {
    let mut transfer = Transfer::new(ring, pool, file, range, options);
    let result = transfer.step_encoded(socket, Step::ALL, encode).await;
    let sent = transfer.end();
    result.map(|()| sent)
}
