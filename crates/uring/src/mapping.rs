//! Memory that the kernel refers to by itself, apart from the heap.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};

/// An anonymous private mapping.
pub(crate) struct Mapping {
    pub(crate) start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    pub(crate) fn address(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// From here on nothing writes to it, neither the process nor the kernel.
    pub(crate) fn protect(&self) -> io::Result<()> {
        // SAFETY: the range is the mapping, which is ours.
        unsafe { mprotect(self.start.as_ptr().cast(), self.len, MprotectFlags::READ) }
            .map_err(Into::into)
    }

    /// For advice that does not change the content.
    pub(crate) fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is the mapping, which is ours.
        unsafe { madvise(self.start.as_ptr().cast(), self.len, advice) }.map_err(Into::into)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its owner is the last to know its address. A failure
        // could only leak it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
