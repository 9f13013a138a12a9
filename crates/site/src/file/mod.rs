//! A file as it is served: its content, metadata and prepared header fields.

pub(crate) mod content_hash;
pub(crate) mod long_memory;
pub(crate) mod memory;
pub(crate) mod ops;
pub(crate) mod popularity;
pub(crate) mod residency_hint;
pub(crate) mod shared_bodies;
pub(crate) mod size_class;
pub(crate) mod sliced;
pub(crate) mod stat;

use std::cell::{Cell, OnceCell};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tidegate_http::{Coding, FieldLines, RepresentationFields, Validators};
use tidegate_origin::{CacheState, Object, Origin};
use tidegate_uring::{Fd, woken_by_others};

use crate::file::memory::FileBytes;
use crate::file::ops::FileOps;
use crate::file::popularity::Popularity;
use crate::file::residency_hint::ResidencyHint;
pub(crate) use crate::file::size_class::allocated;
pub use crate::file::sliced::{SlicePiece, SliceReader, Sliced};
use crate::file::stat::{is_deleted, is_remote};

/// A file, or a precompressed variant of one, with all that a response needs.
pub struct File {
    /// Bytes, as of the lookup.
    pub len: u64,
    /// The body.
    pub content: Content,
    /// Conditional requests are compared with these.
    pub validators: Validators,
    /// The value of Content-Type.
    pub content_type: String,
    /// The content coding of a variant.
    pub coding: Option<Coding>,
    /// Which part is likely to be in the page cache. Senders record what they read.
    pub residency_hint: ResidencyHint,
    /// Further paths whose access rules hold for it, on a site that has any: of the index file or
    /// the item of `try-files` that was found, of the fallback page, and of variants without their
    /// file.
    pub other_paths: OtherPaths,
    /// Of an object of an origin, or of a slice of one.
    pub origin: Option<Provenance>,
    pub(crate) encoded_fields: EncodedFields,
    pub(crate) fields: RepresentationFields,
    /// Decides whether it is worth memory.
    pub(crate) popularity: Popularity,
    /// Closes the descriptor.
    pub(crate) ops: FileOps,
}

/// Where an object came from, and when.
#[derive(Clone)]
pub struct Provenance {
    origin: Arc<Origin>,
    object: Arc<Object>,
    /// The number of the slice, if the file is one.
    slice: u64,
    /// How the next response that sends it came about.
    state: Cell<CacheState>,
}

impl Provenance {
    pub(crate) fn new(origin: &Arc<Origin>, object: &Arc<Object>, state: CacheState) -> Self {
        Self {
            origin: Arc::clone(origin),
            object: Arc::clone(object),
            slice: 0,
            state: Cell::new(state),
        }
    }

    /// That of a slice.
    pub(crate) fn of_slice(origin: &Arc<Origin>, object: &Arc<Object>, number: u64) -> Self {
        Self {
            slice: number,
            ..Self::new(origin, object, CacheState::Hit)
        }
    }

    /// Its age in seconds (RFC 9111, section 5.1).
    pub fn age(&self, now: SystemTime) -> u64 {
        self.object.age(now)
    }

    /// Whether it may be stored.
    pub fn is_stored(&self) -> bool {
        self.object.is_stored()
    }

    /// How the response that sends it now came about. The one after that is a hit.
    pub fn take_state(&self) -> CacheState {
        self.state.replace(CacheState::Hit)
    }

    /// It is used though it is stale, once more.
    pub(crate) fn note_stale(&self) {
        self.state.set(CacheState::Stale);
    }
}

/// Fields as a protocol other than HTTP/1.1 writes them: made once, by the first sender that needs
/// them.
#[derive(Default)]
pub(crate) struct EncodedFields(OnceCell<Encoded>);

struct Encoded {
    bytes: Box<[u8]>,
    /// Where those of a 304 start.
    not_modified: u32,
}

/// Paths of a site, decoded; shared by the variants of a file.
#[derive(Clone, Default)]
pub struct OtherPaths(Option<Rc<[Vec<u8>]>>);

impl OtherPaths {
    pub(crate) fn new(paths: Vec<Vec<u8>>) -> Self {
        Self((!paths.is_empty()).then(|| paths.into()))
    }

    /// The paths.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .flat_map(|paths| paths.iter())
            .map(Vec::as_slice)
    }

    /// Bytes of memory.
    fn memory(&self) -> u64 {
        let bytes = |path: &[u8]| allocated(path.len()) + size_of::<Vec<u8>>() as u64;
        self.iter().map(bytes).sum()
    }
}

/// Where a file's bytes are.
#[derive(Clone)]
pub enum Content {
    /// All of them, in memory. Other cores may share them.
    Memory(FileBytes),
    /// In the file, which is spliced.
    File(Fd),
    /// In slices of an object of an origin, which come one by one.
    Sliced(Sliced),
}

impl File {
    /// The fields of a 200 or 206, Content-Type first.
    pub fn fields(&self) -> FieldLines<'_> {
        self.fields.all()
    }

    /// The same without Content-Type and Content-Encoding, for a 206 of several parts, which have
    /// their own (RFC 9110, section 15.3.7.2).
    pub fn fields_without_type(&self) -> FieldLines<'_> {
        self.fields.without_type()
    }

    /// The fields of a 304 (RFC 9110, section 15.4.5).
    pub fn not_modified_fields(&self) -> FieldLines<'_> {
        self.fields.not_modified()
    }

    /// [`File::fields`] as another protocol writes them: what `encode` appended the first time. It
    /// must not depend on anything but the fields, and at most be as long as they are, by which it
    /// is counted.
    pub fn encoded_fields(&self, encode: fn(FieldLines<'_>, &mut Vec<u8>)) -> &[u8] {
        &self.encoded(encode).bytes
    }

    /// As [`File::encoded_fields`], those of [`File::not_modified_fields`].
    pub fn encoded_not_modified_fields(&self, encode: fn(FieldLines<'_>, &mut Vec<u8>)) -> &[u8] {
        let encoded = self.encoded(encode);
        &encoded.bytes[encoded.not_modified as usize..]
    }

    fn encoded(&self, encode: fn(FieldLines<'_>, &mut Vec<u8>)) -> &Encoded {
        self.encoded_fields.0.get_or_init(|| {
            let mut bytes = Vec::new();
            encode(self.fields.of_content(), &mut bytes);
            let not_modified = bytes.len() as u32;
            encode(self.fields.not_modified(), &mut bytes);
            Encoded {
                bytes: bytes.into(),
                not_modified,
            }
        })
    }

    /// Vary for a 412 or 416; empty without it.
    pub fn vary_field(&self) -> FieldLines<'_> {
        self.fields.vary()
    }

    /// The device of its file system, as the kernel encodes it: 12 bits of major, 20 of minor.
    pub fn device(&self) -> u32 {
        self.ops.owner().device
    }

    /// Bytes of memory, including content that other cores share.
    pub(crate) fn memory(&self) -> u64 {
        let content = match &self.content {
            Content::Memory(bytes) => bytes.memory() + SHARED_BYTES,
            Content::File(_) | Content::Sliced(_) => 0,
        };
        content
            + allocated(size_of::<Self>() + RC_BYTES)
            // Once as lines, once as another protocol writes them.
            + 2 * allocated(self.fields.all().as_bytes().len())
            + allocated(self.content_type.len())
            + self.other_paths.memory()
    }

    /// The disk failed to read it. A slice of an object is removed from the cache, and the next one
    /// who wants it gets it from the origin.
    pub async fn forget_unreadable(&self) {
        if let Some(Provenance {
            origin,
            object,
            slice,
            ..
        }) = &self.origin
        {
            woken_by_others(origin.forget_slice(object, *slice)).await;
        }
    }

    /// Whether it is open and has no link left.
    pub(crate) fn is_deleted(&self) -> bool {
        match &self.content {
            // Those that are open are closed with the response or with this.
            Content::Memory(_) | Content::Sliced(_) => false,
            Content::File(fd) => is_deleted(fd),
        }
    }

    /// Whether it is a single slice that was still growing.
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(&self.content, Content::Sliced(sliced) if sliced.is_single())
    }

    /// Descriptors that it holds open.
    pub(crate) fn descriptors(&self) -> u64 {
        match &self.content {
            Content::Memory(_) => 0,
            Content::File(_) => 1,
            Content::Sliced(sliced) => sliced.descriptors(),
        }
    }
}

/// Bytes of the two counts of an `Rc`.
pub(crate) const RC_BYTES: usize = 16;

/// Bytes that make content shareable: fingerprint, table entry and reference counts.
const SHARED_BYTES: u64 = 320;

impl Drop for File {
    /// A worker of the ring closes a file if that may take long: the last descriptor of a deleted
    /// file frees its blocks, half a second for a large one, and a FUSE server may answer late.
    fn drop(&mut self) {
        let Content::File(fd) = &self.content else {
            return;
        };
        if !is_deleted(fd) && !is_remote(fd) {
            return;
        }
        let Content::File(fd) =
            mem::replace(&mut self.content, Content::Memory(Bytes::new().into()))
        else {
            return;
        };
        self.ops.close(fd);
    }
}
