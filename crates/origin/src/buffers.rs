//! Memory for bytes on their way to the disk, which is used again: to get it from the kernel and to
//! give it back for each piece costs more than the copy into it.

use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer: what one write takes at most.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// Buffers that are kept.
const KEPT_MAX: usize = 16;

/// Buffers that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer for at most `len` bytes, or as many as a buffer takes.
    pub(crate) fn take(&self, len: u64) -> Vec<u8> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = kept.pop();
        drop(kept);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        buffer.unwrap_or_else(|| Vec::with_capacity(len.min(BUFFER_BYTES)))
    }

    /// Keeps a buffer for the next one that needs it.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() >= BUFFER_BYTES && kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_sized_buffers_are_used_again() {
        let buffers = Buffers::default();
        let small = buffers.take(10);
        assert!((10..BUFFER_BYTES).contains(&small.capacity()));
        buffers.give(small);
        assert!(buffers.0.lock().unwrap().is_empty());
        let mut large = buffers.take(u64::MAX);
        large.push(1);
        let address = large.as_ptr();
        buffers.give(large);
        let again = buffers.take(10);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        for _ in 0..2 * KEPT_MAX {
            buffers.give(Vec::with_capacity(BUFFER_BYTES));
        }
        assert_eq!(buffers.0.lock().unwrap().len(), KEPT_MAX);
    }
}
