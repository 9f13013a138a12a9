//! The first worker threads of the kernel (io-wq).
//!
//! The kernel creates a worker when an op has to wait for one, and cancels the op (`ECANCELED`)
//! where it cannot create a thread: at `pids.max` of a cgroup, or at `RLIMIT_NPROC`. But the last
//! worker of a kind never ends for being idle. So workers created at the start stay, and at the
//! limit ops run one after the other and are not cancelled.

use std::ffi::CString;
use std::io;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::pipe::SpliceFlags;

use crate::error::Error;
use crate::fd::Fd;
use crate::ring::Ring;

impl Ring {
    /// Creates a worker of each of the kernel's two kinds: for ops on files, whose number is
    /// bounded by the processors, and for other ops that block, such as a splice to a pipe.
    ///
    /// # Errors
    ///
    /// [`Error::NoWorker`] where the kernel cannot create a thread.
    pub async fn start_workers(&self) -> Result<(), Error> {
        let (reader, writer) = self.pipe().await.map_err(Error::setup("pipe2"))?;
        let (reader, writer) = (Fd::from(reader), Fd::from(writer));
        let (name, flags) = (CString::default(), AtFlags::EMPTY_PATH);
        let stat = self.statx(&reader, name, flags, StatxFlags::TYPE);
        // A splice of no bytes: it takes a worker, and has nothing to wait for.
        let splice = self.splice(&reader, None, &writer, None, 0, SpliceFlags::NONBLOCK);
        stat.await.map_err(explain("statx"))?;
        splice.await.map_err(explain("splice"))?;
        Ok(())
    }
}

fn explain(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.raw_os_error() {
        Some(libc::ECANCELED) => Error::NoWorker,
        _ => Error::setup(operation)(error),
    }
}
