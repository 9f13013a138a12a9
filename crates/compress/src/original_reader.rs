//! Reading an original, until the observer ends the run.

use std::fs::File;
use std::io::{self, Read};

use crate::observer::{Observer, go_on};

/// An original, read with an eye on the observer.
pub(crate) struct Source<'o> {
    pub(crate) file: File,
    /// Of a byte, as the observer is told.
    pub(crate) cost: u64,
    pub(crate) observer: &'o dyn Observer,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        go_on(self.observer)?;
        let count = self.file.read(buffer)?;
        self.observer.advanced(count as u64 * self.cost);
        Ok(count)
    }
}
