//! An io_uring for any glommio executor.
//!
//! glommio drives rings of its own and takes no ops from outside. This crate adds one more
//! io_uring, the *op ring*; any task of the executor can await its ops: multishot accept, multishot
//! recv into a ring of provided buffers, send, splice, poll, openat2, statx, read, fadvise, close,
//! pipe, cancel and nop.
//!
//! ```text
//!  tasks          push an entry, await the op                 wake
//!    |                                                          ^
//!    v                                                          |
//!  submission queue --(one io_uring_enter for the batch)--> completion queue
//!                      the driver task, one for each ring
//!                                  |  nothing left to do
//!                                  v
//!              a wait on the op ring itself, of at most 50 ms; after that
//!              an eventfd read on glommio's ring, on which the executor sleeps
//! ```
//!
//! # Contract
//!
//! * A [`Ring`] belongs to the executor (and thread) that [`Ring::start`]ed it; it is neither
//!   `Send` nor `Sync`. Cloning it is cheap.
//! * An op is queued when its method is called (streams and pipe: when first polled) and submitted
//!   with the batch of the executor's current round. Ops are submitted in the order in which they
//!   were queued.
//! * An op owns its buffers and keeps its file descriptors open until its last completion, even
//!   after its future is gone. **Dropping a future cancels its op**; results that the op still
//!   produces (an accepted connection, an opened file, a filled buffer) are released.
//! * An op that occupies a worker may hold a permit for it ([`Shares`]), which it returns with its
//!   last completion. A worker that a file system blocks stays counted, even when no future waits
//!   for it.
//! * A cancelled op may have taken effect: bytes sent or spliced by then stay sent.
//! * The ring ends with its last clone and last op.
//! * Spawn tasks with [`Ring::spawn`] or [`spawn()`]. Other tasks work as well, but if something
//!   other than the ring wakes them, they may run 150 ms late, as may timers and glommio's own I/O.
//!   [`sleep`] and [`run_blocking`] end at most 10 ms late, and what other threads wake is run at
//!   once by [`woken_by_others`].
//!
//! # Example
//!
//! ```
//! use glommio::{LocalExecutorBuilder, Placement};
//! use tidegate_uring::{Config, Fd, Ring};
//!
//! LocalExecutorBuilder::new(Placement::Unbound)
//!     .make()
//!     .unwrap()
//!     .run(async {
//!         let ring = Ring::start(&Config::default()).unwrap();
//!         let (reader, writer) = ring.pipe().await.unwrap();
//!         rustix::io::write(&writer, b"hello").unwrap();
//!         let (count, bytes) = ring.read(&Fd::from(reader), Vec::with_capacity(16), None).await;
//!         assert_eq!(count.unwrap(), 5);
//!         assert_eq!(bytes, b"hello");
//!     });
//! ```
//!
//! # Kernel
//!
//! Linux 6.1 or newer; [`probe()`] explains an older or restricted one. Features of newer kernels
//! ([`Features`]) are used where they exist, and replaced where they do not.

/// The README's example, kept compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod attention;
mod background;
mod blocking;
mod buffers;
mod config;
mod core;
mod doorbell;
mod driver;
mod error;
pub mod executor;
mod fd;
mod features;
mod foreign_wakes;
mod io;
mod locked;
mod mapping;
mod op;
mod pacing;
mod pages;
mod poll_on_wake;
mod probe;
mod queue;
mod reap;
mod resources;
mod restrict;
mod ring;
mod send_queue;
mod setup;
mod shared;
mod shares;
#[cfg(feature = "simulation")]
pub mod simulation;
mod slot;
mod spawn;
mod sqe;
mod stats;
mod tcp_info;
mod tell;
mod thread_pool;
mod trial;
mod unsent;
mod wakeup_timers;
mod workers;

pub use attention::sleep;
pub use background::unpin_and_renice;
pub use blocking::{catch_panic, run_blocking};
pub use buffers::RecvBuf;
pub use config::Config;
pub use error::Error;
pub use fd::Fd;
pub use features::Features;
pub use foreign_wakes::woken_by_others;
pub use op::accept::Accept;
pub use op::recv::{Received, Recv};
pub use op::{
    Op, accept, advise, cancel, close, nop, open, pipe, poll, read, recv, send, splice, stat,
};
pub use pacing::{UNPACED, set_pacing_rate};
pub use pages::{PagePipe, Pages};
pub use poll_on_wake::PollOnWake;
pub use probe::probe;
pub use ring::Ring;
pub use send_queue::unacknowledged;
pub use shares::{Owner, Permit, Shares};
pub use spawn::spawn;
pub use stats::{RingStats, WorkerOps};
pub use tcp_info::{TcpInfo, tcp_info};
pub use thread_pool::{PoolHandle, ThreadPool};
pub use trial::{Trial, queues_count};
pub use unsent::unsent_bytes;
