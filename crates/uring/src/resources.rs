//! The resources that an op owns while the kernel may use them.

use std::ffi::CString;
use std::mem;
use std::os::fd::{OwnedFd, RawFd};
use std::ptr::NonNull;

use bytes::Bytes;
use io_uring::types::OpenHow;
use rustix::fs::Statx;

use crate::fd::Fd;
use crate::shares::Permit;

/// Descriptors and memory of one op. They live in the op's slot, not in its future.
#[derive(Default)]
pub(crate) struct OpResources {
    /// Kept open so that the number in the entry names this file.
    fd: Option<Fd>,
    pub(crate) memory: Memory,
    /// The permit to occupy a worker. Boxed to keep slots small: most have none.
    pub(crate) permit: Option<Box<Permit>>,
}

impl OpResources {
    pub(crate) fn new(fd: &Fd, memory: Memory) -> Self {
        Self {
            fd: Some(fd.clone()),
            memory,
            permit: None,
        }
    }

    pub(crate) fn pair(from: &Fd, to: &Fd) -> Self {
        Self {
            fd: Some(from.clone()),
            memory: Memory::Second(to.clone()),
            permit: None,
        }
    }

    pub(crate) fn memory(memory: Memory) -> Self {
        Self {
            fd: None,
            memory,
            permit: None,
        }
    }

    /// Whether the op works on descriptor number `fd`.
    pub(crate) fn has_fd(&self, fd: RawFd) -> bool {
        let second = match &self.memory {
            Memory::Second(second) => Some(second),
            _ => None,
        };
        self.fd
            .iter()
            .chain(second)
            .any(|resources| resources.raw() == fd)
    }

    /// The file of an op with a permit, if nothing else holds it: closing it may block as long.
    pub(crate) fn into_last_file(self) -> Option<(OwnedFd, Box<Permit>)> {
        let permit = self.permit?;
        let fd = self.fd?.try_unwrap().ok()?;
        Some((fd, permit))
    }

    /// Releases the descriptor that a close op has closed.
    pub(crate) fn closed(&mut self) {
        if let Memory::Closing(fd) = mem::take(&mut self.memory) {
            mem::forget(fd);
        }
    }
}

/// Memory that the kernel reads or writes for an op. All of it is on the heap: its address
/// does not change when the value is moved.
#[derive(Default)]
#[expect(dead_code, reason = "some is resources for the kernel alone")]
pub(crate) enum Memory {
    #[default]
    None,
    /// Read by the kernel. Boxed, as is the next, to keep slots small.
    Bytes(Box<Bytes>),
    /// Its spare capacity is written by the kernel.
    #[expect(
        clippy::box_collection,
        reason = "a pointer's size where it is not there"
    )]
    Buffer(Box<Vec<u8>>),
    /// Read by the kernel.
    Open(Stable<(CString, OpenHow)>),
    /// The path is read, the answer written by the kernel.
    Stat(Stable<(CString, Statx)>),
    /// Written by the kernel: the read and the write end.
    Pipe(Stable<[i32; 2]>),
    /// The other descriptor of an op that has two.
    Second(Fd),
    /// The descriptor of a close op: an unsubmitted op closes it by being dropped.
    Closing(OwnedFd),
}

/// A boxed value whose address the kernel holds.
///
/// A plain `Box` asserts when it is moved that nobody else reaches its value; this one does not.
pub(crate) struct Stable<T>(NonNull<T>);

impl<T> Stable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// For the submission entry, and to initialise the value.
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// The value, when the kernel no longer uses it.
    pub(crate) fn into_inner(self) -> T {
        let pointer = self.0.as_ptr();
        mem::forget(self);
        // SAFETY: the pointer came from `Box::leak` in `new` and `self`, its only owner, was
        // forgotten, so nothing frees it a second time.
        *unsafe { Box::from_raw(pointer) }
    }
}

impl<T> Drop for Stable<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak` in `new`, and `into_inner`, the only other
        // place that frees it, forgets `self`.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
