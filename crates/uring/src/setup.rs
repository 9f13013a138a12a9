//! `io_uring_setup(2)`, and what its errors mean.

use std::io;

use io_uring::IoUring;

use crate::error::Error;
use crate::locked::explain_enomem;

/// Sets up an io_uring for one thread that submits and reaps; completions are deferred until it
/// asks for them.
pub(crate) fn setup(entries: u32, completions: u32) -> io::Result<IoUring> {
    builder(completions).build(entries)
}

/// As [`setup`], but it takes no entries before it is enabled
/// ([`restrict_and_enable`](crate::restrict::restrict_and_enable)).
pub(crate) fn setup_disabled(entries: u32, completions: u32) -> io::Result<IoUring> {
    builder(completions).setup_r_disabled().build(entries)
}

fn builder(completions: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .dontfork();
    builder
}

/// Turns the error of [`setup`] for a ring that locks `bytes` of memory into a cause and a remedy.
pub(crate) fn explain_setup(error: io::Error, bytes: u64) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Error::Missing(error),
        Some(libc::EPERM | libc::EACCES) => match switched_off() {
            Some(value) => Error::SwitchedOff { value },
            None => Error::Forbidden(error),
        },
        Some(libc::EINVAL) => too_old("IORING_SETUP_DEFER_TASKRUN"),
        Some(libc::ENOMEM) => explain_enomem(error, bytes),
        _ => Error::setup("io_uring_setup")(error),
    }
}

/// `kernel.io_uring_disabled`, where it forbids something.
fn switched_off() -> Option<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok().filter(|value| *value > 0)
}

/// An error that names the running kernel, and what it lacks.
pub(crate) fn too_old(missing: &'static str) -> Error {
    Error::TooOld {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        missing,
    }
}
