//! The bytes of an object of an origin: slices, each a file of the cache, which may still grow.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_http::{RepresentationFields, Validators};
use tidegate_origin::{Growing, Object, Origin, Slice, Stream};
use tidegate_uring::{Fd, woken_by_others};

use crate::error::Error;
use crate::file::ops::FileOps;
use crate::file::popularity::Popularity;
use crate::file::residency_hint::ResidencyHint;
use crate::file::{Content, EncodedFields, File, OtherPaths, Provenance};

/// Slices of one object that a core keeps open.
const OPEN_MAX: usize = 32;

/// The slices of an object.
#[derive(Clone)]
pub struct Sliced(Rc<Inner>);

struct Inner {
    origin: Arc<Origin>,
    object: Arc<Object>,
    ops: FileOps,
    /// Those that are complete and were read lately, by number.
    open: RefCell<BTreeMap<u64, Rc<File>>>,
    /// The number of the last fill and its file, as long as somebody reads it: a crowd has one descriptor.
    growing: RefCell<(u64, Weak<File>)>,
}

impl Sliced {
    pub(crate) fn new(origin: &Arc<Origin>, object: &Arc<Object>, ops: &FileOps) -> Self {
        Self(Rc::new(Inner {
            origin: Arc::clone(origin),
            object: Arc::clone(object),
            ops: ops.clone(),
            open: RefCell::default(),
            growing: RefCell::default(),
        }))
    }

    /// Descriptors that it may hold open. It does not change with those that it does.
    pub(crate) fn descriptors(&self) -> u64 {
        let slices = self.0.object.len().div_ceil(self.0.origin.slice_len());
        slices.clamp(1, OPEN_MAX as u64)
    }

    /// Whether there is one slice only.
    pub(crate) fn is_single(&self) -> bool {
        self.0.object.len() <= self.0.origin.slice_len()
    }

    fn number(&self, position: u64) -> u64 {
        position / self.0.origin.slice_len()
    }

    /// The bytes of a slice within the object.
    fn range(&self, number: u64) -> Range<u64> {
        let len = self.0.origin.slice_len();
        number * len..((number + 1) * len).min(self.0.object.len())
    }

    fn file(&self, file: OwnedFd, number: u64) -> Rc<File> {
        let range = self.range(number);
        Rc::new(File {
            len: range.end - range.start,
            content: Content::File(Fd::from(file)),
            validators: Validators::default(),
            content_type: String::new(),
            coding: None,
            residency_hint: ResidencyHint::default(),
            other_paths: OtherPaths::default(),
            origin: Some(Provenance::of_slice(&self.0.origin, &self.0.object, number)),
            encoded_fields: EncodedFields::default(),
            fields: RepresentationFields::default(),
            popularity: Popularity::default(),
            ops: self.0.ops.clone(),
        })
    }

    /// A slice that grows.
    fn growing(&self, number: u64, growing: &Growing) -> Result<Rc<File>, Error> {
        let mut last = self.0.growing.borrow_mut();
        if last.0 == growing.fill()
            && let Some(file) = last.1.upgrade()
        {
            return Ok(file);
        }
        let file = self.file(growing.file().map_err(Error::Busy)?, number);
        *last = (growing.fill(), Rc::downgrade(&file));
        Ok(file)
    }

    fn keep_open(&self, number: u64, file: &Rc<File>) {
        let mut open = self.0.open.borrow_mut();
        if open.len() >= OPEN_MAX {
            // Readers go forward: the farthest behind is needed last.
            let behind = open.range(..number).next().map(|(number, _)| *number);
            let farthest = behind.or_else(|| open.keys().next_back().copied());
            farthest.map(|number| open.remove(&number));
        }
        open.insert(number, Rc::clone(file));
    }

    /// A slice that is open already. One that was evicted meanwhile is closed.
    fn opened(&self, number: u64) -> Option<Rc<File>> {
        let mut open = self.0.open.borrow_mut();
        let file = open.get(&number)?;
        if file.is_deleted() {
            open.remove(&number);
            return None;
        }
        self.0.origin.touch_slice(&self.0.object, number);
        Some(Rc::clone(file))
    }
}

/// Reads ranges of an object, slice by slice.
pub struct SliceReader {
    sliced: Sliced,
    current: Option<Current>,
}

struct Current {
    number: u64,
    source: Source,
}

enum Source {
    Stored(Rc<File>),
    Growing(Rc<File>, Box<Growing>),
    /// The bytes from this position on came already.
    Streamed(Box<Stream>, Bytes, u64),
}

/// What is next of an object.
pub enum SlicePiece {
    /// Bytes of a file, within it.
    File(Rc<File>, Range<u64>),
    /// Bytes in memory.
    Bytes(Bytes),
    /// [`SliceReader::make`] waits for it.
    Waits,
}

impl SliceReader {
    /// A reader of the object.
    pub fn new(sliced: &Sliced) -> Self {
        Self {
            sliced: sliced.clone(),
            current: None,
        }
    }

    /// The next bytes of `range`, which is not empty, from its start on; at most `max` of them if
    /// they are in memory. The caller takes them off the range.
    pub fn next_now(&mut self, range: &Range<u64>, max: usize) -> SlicePiece {
        let number = self.sliced.number(range.start);
        if self
            .current
            .as_ref()
            .is_none_or(|current| current.number != number)
        {
            let Some(file) = self.sliced.opened(number) else {
                return SlicePiece::Waits;
            };
            let source = Source::Stored(file);
            self.current = Some(Current { number, source });
        }
        let slice = self.sliced.range(number);
        let within = |end: u64| range.start - slice.start..end.min(range.end) - slice.start;
        match self.current.as_mut().map(|current| &mut current.source) {
            Some(Source::Stored(file)) => SlicePiece::File(Rc::clone(file), within(slice.end)),
            Some(Source::Growing(file, growing)) => {
                let end = slice.start + growing.written();
                if end > range.start {
                    SlicePiece::File(Rc::clone(file), within(end))
                } else {
                    SlicePiece::Waits
                }
            }
            Some(Source::Streamed(_, bytes, position)) if *position == range.start => {
                let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let piece = bytes.split_to(bytes.len().min(max).min(left));
                *position += piece.len() as u64;
                if piece.is_empty() {
                    SlicePiece::Waits
                } else {
                    SlicePiece::Bytes(piece)
                }
            }
            Some(Source::Streamed(..)) | None => SlicePiece::Waits,
        }
    }

    /// Waits until [`SliceReader::next_now`] has bytes of `range`, which is not empty.
    ///
    /// Dropped: nothing is lost but bytes that are not stored.
    ///
    /// # Errors
    ///
    /// Why they cannot be had: the response is cut short.
    pub async fn make(&mut self, range: &Range<u64>) -> Result<(), Error> {
        let number = self.sliced.number(range.start);
        let start = self.sliced.range(number).start;
        let Inner { origin, object, .. } = &*self.sliced.0;
        match self.current.as_mut() {
            Some(Current {
                number: current,
                source,
            }) if *current == number => match source {
                Source::Stored(_) => return Ok(()),
                Source::Growing(_, growing) => {
                    if woken_by_others(growing.more_than(range.start - start))
                        .await?
                        .is_some()
                    {
                        return Ok(());
                    }
                    let rest = origin.rest(object, range.start);
                    *source = Source::Streamed(Box::new(rest), Bytes::new(), range.start);
                }
                Source::Streamed(..) => {}
            },
            // A stream of an object that has no ranges goes on over the ends of slices.
            Some(Current {
                number: current,
                source: Source::Streamed(_, _, position),
            }) if *position == range.start => {
                *current = number;
            }
            _ => self.open(number, range).await?,
        }
        let source = self.current.as_mut().map(|current| &mut current.source);
        if let Some(Source::Streamed(stream, bytes, position)) = source
            && (bytes.is_empty() || *position != range.start)
        {
            match woken_by_others(stream.next(range.start)).await? {
                Some(next) => (*bytes, *position) = (next, range.start),
                // It ended with its slice.
                None => self.open(number, range).await?,
            }
        }
        Ok(())
    }

    async fn open(&mut self, number: u64, range: &Range<u64>) -> Result<(), Error> {
        let Inner { origin, object, .. } = &*self.sliced.0;
        let slice = woken_by_others(origin.slice(object, number)).await?;
        if range.end > self.sliced.range(number).end {
            origin.prefetch(object, number + 1);
        }
        let source = match slice {
            Slice::Stored(file) => {
                // Another reader may have opened it meanwhile.
                let file = self.sliced.opened(number).unwrap_or_else(|| {
                    let file = self.sliced.file(file, number);
                    self.sliced.keep_open(number, &file);
                    file
                });
                Source::Stored(file)
            }
            Slice::Growing(growing) => {
                Source::Growing(self.sliced.growing(number, &growing)?, Box::new(growing))
            }
            Slice::Streamed(stream) => {
                Source::Streamed(Box::new(stream), Bytes::new(), range.start)
            }
        };
        self.current = Some(Current { number, source });
        Ok(())
    }
}
