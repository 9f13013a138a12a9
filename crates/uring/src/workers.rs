//! The first worker threads of the kernel (io-wq).
//!
//! The kernel makes a worker when an op has to wait for one, and cancels the op (`ECANCELED`)
//! where no thread is to be had: at `pids.max` of a cgroup, or at `RLIMIT_NPROC`. But the last
//! worker of a kind never ends for being idle. So workers that are made at the start are there for
//! good, and at the limit ops are done one after the other, not cancelled.

use std::ffi::CString;
use std::io;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::pipe::SpliceFlags;

use crate::error::Error;
use crate::fd::Fd;
use crate::ring::Ring;

impl Ring {
    /// Has the kernel make a worker of each of its two kinds: for ops on files, whose number is
    /// bounded by the processors, and for other ops that block, such as a splice to a pipe.
    ///
    /// # Errors
    ///
    /// [`Error::NoWorker`] where the kernel has no thread to give.
    pub async fn start_workers(&self) -> Result<(), Error> {
        let (reader, writer) = self.pipe().await.map_err(Error::setup("pipe2"))?;
        let (reader, writer) = (Fd::from(reader), Fd::from(writer));
        let (name, flags) = (CString::default(), AtFlags::EMPTY_PATH);
        let stat = self.statx(&reader, name, flags, StatxFlags::TYPE);
        // Of no bytes: it takes a worker, which has nothing to wait for.
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
