//! Why a ring cannot be set up, with the remedy.

use std::io;

/// Why a ring cannot be set up on this host.
///
/// `Display` prints all of it. There is no `source`: printing both would repeat it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel was built without io_uring, or a filter reports so.
    #[error(
        "this kernel has no io_uring (io_uring_setup: {0}): use Linux 6.1 or newer, built with \
         CONFIG_IO_URING; in a container, see that its seccomp profile allows io_uring"
    )]
    Missing(io::Error),
    /// `kernel.io_uring_disabled` forbids it.
    #[error(
        "io_uring is switched off on this host (kernel.io_uring_disabled = {value}): set it to 0 \
         with sysctl, or to 1 and put this user into the group of kernel.io_uring_group"
    )]
    SwitchedOff {
        /// 1: disabled for all but a group; 2: for everybody.
        value: u8,
    },
    /// A seccomp filter, as in containers, refuses the call.
    #[error(
        "io_uring is forbidden here (io_uring_setup: {0}): the seccomp profile of this container \
         or service does not allow io_uring_setup, io_uring_enter and io_uring_register; allow the \
         three in it"
    )]
    Forbidden(io::Error),
    /// Too little memory may be locked.
    #[error(
        "RLIMIT_MEMLOCK is {} for io_uring: it is {limit} bytes for all processes of this user \
         together, and {needed} more are needed: raise it with `ulimit -l`, LimitMEMLOCK= or \
         --ulimit memlock=",
        if limit < needed { "too small" } else { "used up" }
    )]
    LockedMemory {
        /// The limit in force, in bytes.
        limit: u64,
        /// The amount to be locked, in bytes.
        needed: u64,
    },
    /// The kernel has no memory for it, whatever the limit.
    #[error(
        "the kernel has not enough memory for io_uring ({0}): RLIMIT_MEMLOCK is not the cause; see \
         how much memory this host, container or service has left"
    )]
    Memory(io::Error),
    /// A feature of Linux 6.1 is missing.
    #[error(
        "this kernel ({release}) is too old: {missing} is not there; Linux 6.1 is the oldest that \
         will do"
    )]
    TooOld {
        /// The release of the running kernel, as in `uname -r`.
        release: String,
        /// The missing feature.
        missing: &'static str,
    },
    /// The kernel has no thread for ops that block.
    #[error(
        "the kernel cannot start a worker thread for io_uring: raise the limit of threads: \
         pids.max of the cgroup (TasksMax=, --pids-limit) or RLIMIT_NPROC (`ulimit -u`, \
         LimitNPROC=)"
    )]
    NoWorker,
    /// Setting a part of the ring up failed for another reason.
    #[error("{operation}: {reason}")]
    Setup {
        /// The call that failed.
        operation: &'static str,
        /// The kernel's error.
        reason: io::Error,
    },
}

impl Error {
    pub(crate) fn setup(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Setup { operation, reason }
    }
}
