//! All that this workspace uses of glommio beside the op ring: an executor, its timers and a
//! semaphore. Other crates name these and not glommio, so that it can be replaced in one place.

use std::io;
use std::thread;
use std::time::Duration;

pub use glommio::Task;
pub use glommio::sync::{Permit, Semaphore};
pub use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use crate::locked::queue_bytes;

/// The least RLIMIT_MEMLOCK in bytes with which glommio 0.9 makes an executor, even for a process
/// that is exempt.
pub const LOCKED_LIMIT_MIN: u64 = 512 * 1024;

/// Bytes that glommio registers with each ring for direct I/O, which tidegate does not use.
const IO_BYTES: usize = 64 * 1024;

/// Rings of an executor: main, latency and poll.
const RINGS: u64 = 3;

/// Entries and completions of each of them.
const QUEUES: (u32, u32) = (128, 256);

/// What glommio's panics say when the kernel refuses a call for its rings.
const REFUSED_CALLS: [&str; 4] = [
    "flush_rings!",
    "OutOfMemory",
    "Failed to poll io",
    "Failed to park",
];

/// An executor of the thread that makes it, for futures that are not `Send`. It leaves the thread
/// where it may run: the caller pins it.
///
/// Dropped: tasks that have not ended are leaked, unless they were cancelled.
#[derive(Debug)]
pub struct Executor(LocalExecutor);

impl Executor {
    /// An executor called `name`, with `blocking_threads` threads for
    /// [`run_blocking`](crate::run_blocking), 1 or more. They may run wherever this thread may at
    /// the time.
    ///
    /// # Errors
    ///
    /// Where a thread or a ring cannot be made.
    pub fn new(name: &str, blocking_threads: usize) -> io::Result<Self> {
        // glommio panics if it cannot start its blocking threads.
        thread::Builder::new().spawn(|| {}).map(drop)?;
        // Unbound: to pin a thread, glommio reads /sys, which may be hidden.
        LocalExecutorBuilder::new(Placement::Unbound)
            .name(name)
            .io_memory(IO_BYTES)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(blocking_threads))
            .make()
            .map(Self)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// Bytes that the rings of one executor lock.
    #[must_use]
    pub fn locked_bytes() -> u64 {
        let (entries, completions) = QUEUES;
        RINGS * (queue_bytes(entries, completions) + IO_BYTES as u64)
    }

    /// Runs `future` to its end, and what it spawns for as long. The thread does nothing else.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.run(future)
    }
}

/// Waits for `time`, and for up to 150 ms more while the op ring is busy. It costs nothing beside
/// the timer; [`sleep`](crate::sleep) comes 10 ms late at most, and wakes the executor for it.
///
/// Dropped: the timer is removed.
pub async fn coarse_sleep(time: Duration) {
    Timer::new(time).await;
}

/// The message of a panic, with the cause that glommio leaves out when the kernel refuses a call
/// for its rings.
#[must_use]
pub fn explain_panic(message: &str) -> String {
    if REFUSED_CALLS.iter().any(|text| message.contains(text)) {
        format!("{message} (the kernel refused an io_uring_enter: is memory short?)")
    } else {
        message.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_explained() {
        let all = [
            ("assertion failed: flush_rings!(lat_ring)? > 0", true),
            (
                "Failed to park! This is actually pretty bad!: Os { code: 12 }",
                true,
            ),
            ("index out of bounds", false),
        ];
        for (panic, is_refusal) in all {
            let text = explain_panic(panic);
            assert!(text.starts_with(panic));
            assert_eq!(text.contains("io_uring_enter"), is_refusal, "{text}");
        }
    }
}
