//! A file as it is served.

pub(crate) mod content_hash;
pub(crate) mod ops;
pub(crate) mod residency_hint;
pub(crate) mod shared_bodies;
pub(crate) mod stat;

use std::mem;

use bytes::Bytes;
use tidegate_http::{Coding, FieldLines, RepresentationFields, Validators};
use tidegate_uring::Fd;

use crate::file::ops::FileOps;
use crate::file::residency_hint::ResidencyHint;
use crate::file::stat::{is_deleted, is_remote};

/// A file, or a precompressed variant of one, with all that its responses need.
pub struct File {
    /// Bytes, as they were when the file was looked at.
    pub len: u64,
    /// Where its bytes are.
    pub content: Content,
    /// What requests with conditions are compared with.
    pub validators: Validators,
    /// The value of Content-Type.
    pub content_type: String,
    /// The coding of a variant.
    pub coding: Option<Coding>,
    /// What of its content was in memory a moment ago; who has read some says so.
    pub residency_hint: ResidencyHint,
    pub(crate) fields: RepresentationFields,
    /// Closes it.
    pub(crate) ops: FileOps,
}

/// Where a file's bytes are.
#[derive(Clone)]
pub enum Content {
    /// In memory: all of them. Other cores may hold the same ones.
    Memory(Bytes),
    /// In the file, to be spliced.
    File(Fd),
}

impl File {
    /// The fields of a 200 or 206, Content-Type first.
    pub fn fields(&self) -> FieldLines<'_> {
        self.fields.all()
    }

    /// The same without Content-Type and Content-Encoding, which the parts of a 206 of several say.
    pub fn fields_without_type(&self) -> FieldLines<'_> {
        self.fields.without_type()
    }

    /// The fields of a 304 (RFC 9110, section 15.4.5).
    pub fn not_modified_fields(&self) -> FieldLines<'_> {
        self.fields.not_modified()
    }

    /// Vary, if it is there: for a 412 or 416.
    pub fn vary_field(&self) -> FieldLines<'_> {
        self.fields.vary()
    }

    /// The device that it lies on.
    pub fn device(&self) -> u32 {
        self.ops.owner().device
    }

    /// Bytes of memory that it takes, whoever else holds its content.
    pub(crate) fn memory(&self) -> u64 {
        let content = match &self.content {
            // Room for one byte more tells a file that grows while it is read.
            Content::Memory(bytes) => allocated(bytes.len() + 1) + SHARED_BYTES,
            Content::File(_) => 0,
        };
        content
            + allocated(size_of::<Self>() + RC_BYTES)
            + allocated(self.fields.all().as_bytes().len())
            + allocated(self.fields.not_modified().as_bytes().len())
            + allocated(self.content_type.len())
    }

    /// Whether it is kept open and has no name any more.
    pub(crate) fn is_deleted(&self) -> bool {
        match &self.content {
            Content::Memory(_) => false,
            Content::File(fd) => is_deleted(fd),
        }
    }

    /// Descriptors that it keeps open.
    pub(crate) fn descriptors(&self) -> u64 {
        match self.content {
            Content::Memory(_) => 0,
            Content::File(_) => 1,
        }
    }
}

/// Counts of an `Rc` beside what is in it.
pub(crate) const RC_BYTES: usize = 16;

/// What content takes by which other cores find it: its identity, its place in their table, and what counts those
/// who hold it.
const SHARED_BYTES: u64 = 320;

/// Bytes that the allocator takes for so many: jemalloc has four sizes between a power of two and the next, and none
/// apart by less than 16.
pub(crate) fn allocated(bytes: usize) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step) as u64
}

impl Drop for File {
    /// Where it may take long to close it, a worker of the ring does. With the last descriptor of a file
    /// that was deleted goes its content, which for a large one keeps a core for half a second.
    fn drop(&mut self) {
        let Content::File(fd) = &self.content else {
            return;
        };
        if !is_deleted(fd) && !is_remote(fd) {
            return;
        }
        let Content::File(fd) = mem::replace(&mut self.content, Content::Memory(Bytes::new()))
        else {
            return;
        };
        self.ops.close(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_of_a_size_that_the_allocator_has() {
        let table = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (1024, 1024),
            (1025, 1280),
            (16_384, 16_384),
            (16_385, 20_480),
        ];
        for (bytes, expected) in table {
            assert_eq!(allocated(bytes), expected, "{bytes}");
        }
    }
}
