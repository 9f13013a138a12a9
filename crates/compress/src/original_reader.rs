//! Reading an original, until the observer ends the run.

use std::fs::File;
use std::io::{self, Read};

use crate::observer::{Observer, check_stopped};

/// Reads an original, reports progress, and stops when the observer says so.
pub(crate) struct OriginalReader<'o> {
    pub(crate) file: File,
    /// Work per byte, in the observer's unit.
    pub(crate) cost: u64,
    pub(crate) observer: &'o dyn Observer,
}

impl Read for OriginalReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check_stopped(self.observer)?;
        let count = self.file.read(buffer)?;
        self.observer.advanced(count as u64 * self.cost);
        Ok(count)
    }
}
