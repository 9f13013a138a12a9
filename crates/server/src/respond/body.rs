//! The body of a response, in pieces. The sender frames them.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use tidegate_http::Multipart;
use tidegate_site::{Content, Decompression, Error, File, Listing, SlicePiece, SliceReader};

use super::response::Body;

/// Bytes in memory that are encrypted and sent at a time: few enough to stay in the processor's
/// cache.
const PIECE_BYTES: usize = 64 * 1024;

/// The most parts of a multipart body in one piece. Other tasks run between pieces.
const PARTS_PER_PIECE: usize = 16;

/// The unsent part of a body.
pub(crate) struct BodySource {
    kind: Kind,
    /// The part that did not fit into the previous piece.
    rest: Bytes,
    /// Reads an object in slices.
    slices: Option<Box<SliceReader>>,
}

enum Kind {
    /// Only `rest`.
    Bytes,
    /// A range of a file.
    Range(Rc<File>, Range<u64>),
    Parts(Box<Parts>),
    Listing(Box<Listing>),
    Decompression(Box<Decompression>),
}

/// A piece of a body.
pub(crate) enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file that is open or has pages: all of it, however long.
    File(Rc<File>, Range<u64>),
}

/// What is next of a body.
pub(crate) enum Next {
    Piece(Piece),
    End,
    /// A piece that [`BodySource::make`] makes.
    Waits,
}

impl From<Option<Piece>> for Next {
    fn from(piece: Option<Piece>) -> Self {
        piece.map_or(Self::End, Self::Piece)
    }
}

impl From<Body> for BodySource {
    fn from(body: Body) -> Self {
        let slices = match &body {
            Body::File(file, _) | Body::Parts(file, _) => match &file.content {
                Content::Sliced(sliced) => Some(Box::new(SliceReader::new(sliced))),
                Content::Memory(_) | Content::File(_) => None,
            },
            _ => None,
        };
        let kind = match body {
            Body::Empty => Kind::Bytes,
            Body::Static(bytes) => {
                return Self {
                    kind: Kind::Bytes,
                    rest: Bytes::from_static(bytes),
                    slices: None,
                };
            }
            Body::File(file, range) => Kind::Range(file, range),
            Body::Parts(file, multipart) => Kind::Parts(Box::new(Parts::new(file, *multipart))),
            Body::Listing(listing) => Kind::Listing(listing),
            Body::Decompression(decompression) => Kind::Decompression(decompression),
        };
        Self {
            kind,
            rest: Bytes::new(),
            slices,
        }
    }
}

impl BodySource {
    /// Whether the length of the body is known before it is sent. Otherwise its pieces are made
    /// while it is sent, which takes CPU time.
    pub(crate) fn has_length(&self) -> bool {
        !matches!(self.kind, Kind::Listing(_) | Kind::Decompression(_))
    }

    /// Whether nothing follows, as far as that is known without [`BodySource::next_now`].
    pub(crate) fn is_complete(&self) -> bool {
        let is_complete = match &self.kind {
            Kind::Bytes => true,
            Kind::Range(_, range) => range.is_empty(),
            Kind::Parts(parts) => parts.is_complete(),
            Kind::Listing(_) | Kind::Decompression(_) => false,
        };
        is_complete && self.rest.is_empty()
    }

    /// As [`BodySource::next_now`] for a range of a file in memory whose bytes have pages of their
    /// own: all of it. `None`: something else is next.
    pub(crate) fn next_in_pages(&mut self) -> Option<Piece> {
        match &mut self.kind {
            Kind::Range(file, range) if !range.is_empty() && has_pages(file) => {
                let taken = range.clone();
                range.start = range.end;
                Some(Piece::File(Rc::clone(file), taken))
            }
            _ => None,
        }
    }

    /// Whether it may have to be waited for as long as an origin takes.
    pub(crate) fn is_of_origin(&self) -> bool {
        self.slices.is_some()
    }

    /// The next piece, with at most `max` bytes if they are in memory.
    pub(crate) fn next_now(&mut self, max: NonZeroUsize) -> Next {
        let max = max.get().min(PIECE_BYTES);
        if self.rest.is_empty() {
            if let (Some(slices), Some(range)) = (&mut self.slices, self.kind.range())
                && !range.is_empty()
            {
                return take_slice(slices, range, max);
            }
            self.rest = match &mut self.kind {
                Kind::Bytes => Bytes::new(),
                Kind::Range(file, range) => return take_range(file, range, max).into(),
                Kind::Parts(parts) => match parts.next(max) {
                    Some(Piece::Bytes(bytes)) => bytes,
                    other => return other.into(),
                },
                Kind::Listing(listing) => listing.next_piece().unwrap_or_default(),
                Kind::Decompression(_) => return Next::Waits,
            };
        }
        let piece = self.rest.split_to(self.rest.len().min(max));
        (!piece.is_empty()).then_some(Piece::Bytes(piece)).into()
    }

    /// Waits until the next piece is in memory. An error cuts the body short.
    ///
    /// Dropped: the piece may be lost, and with it the body.
    pub(crate) async fn make(&mut self) -> Result<(), Error> {
        if let (Some(slices), Some(range)) = (&mut self.slices, self.kind.range())
            && !range.is_empty()
        {
            return Box::pin(slices.make(range)).await;
        }
        if let Kind::Decompression(decompression) = &mut self.kind {
            // Boxed, since it is rare and would enlarge the connection's future.
            match Box::pin(decompression.next_piece()).await? {
                Some(piece) => self.rest = piece,
                None => self.kind = Kind::Bytes,
            }
        }
        Ok(())
    }
}

impl Kind {
    /// The rest of the range of a file that is sent now.
    fn range(&mut self) -> Option<&mut Range<u64>> {
        match self {
            Self::Range(_, range) => Some(range),
            Self::Parts(parts) => Some(&mut parts.range),
            Self::Bytes | Self::Listing(_) | Self::Decompression(_) => None,
        }
    }
}

/// Takes the next piece of an object off `range`, which is not empty.
fn take_slice(slices: &mut SliceReader, range: &mut Range<u64>, max: usize) -> Next {
    let piece = match slices.next_now(range, max) {
        SlicePiece::File(file, part) => {
            range.start += part.end - part.start;
            Piece::File(file, part)
        }
        SlicePiece::Bytes(bytes) => {
            range.start += bytes.len() as u64;
            Piece::Bytes(bytes)
        }
        SlicePiece::Waits => return Next::Waits,
    };
    Next::Piece(piece)
}

fn has_pages(file: &File) -> bool {
    matches!(&file.content, Content::Memory(bytes) if bytes.pages().is_some())
}

/// Takes the next piece off `range`: `max` bytes if the file is in memory, else all of it.
fn take_range(file: &Rc<File>, range: &mut Range<u64>, max: usize) -> Option<Piece> {
    if range.is_empty() {
        return None;
    }
    let start = range.start;
    Some(match &file.content {
        Content::Memory(bytes) => {
            range.start += (range.end - start).min(max as u64);
            Piece::Bytes(bytes.slice_ref(slice(bytes, &(start..range.start))))
        }
        // An object in slices is read by its reader.
        Content::File(_) | Content::Sliced(_) => {
            range.start = range.end;
            Piece::File(Rc::clone(file), start..range.end)
        }
    })
}

/// The unsent part of several ranges of a file.
struct Parts {
    file: Rc<File>,
    multipart: Multipart,
    /// The index of the next range.
    next: usize,
    /// The rest of the range whose head was sent.
    range: Range<u64>,
    ended: bool,
}

impl Parts {
    fn new(file: Rc<File>, multipart: Multipart) -> Self {
        Self {
            file,
            multipart,
            next: 0,
            range: 0..0,
            ended: false,
        }
    }

    fn is_complete(&self) -> bool {
        self.ended && self.range.is_empty()
    }

    /// The next piece. Small parts of a file in memory are in one.
    fn next(&mut self, max: usize) -> Option<Piece> {
        if let Some(piece) = take_range(&self.file, &mut self.range, max) {
            return Some(piece);
        }
        let mut out = Vec::new();
        for range in self.multipart.ranges().iter().skip(self.next) {
            self.next += 1;
            self.multipart.write_head(range, &mut out);
            match &self.file.content {
                Content::Memory(bytes)
                    if length(range) <= PIECE_BYTES.saturating_sub(out.len()) =>
                {
                    out.extend_from_slice(slice(bytes, range));
                }
                _ => {
                    self.range = range.clone();
                    return Some(Piece::Bytes(out.into()));
                }
            }
            if self.next.is_multiple_of(PARTS_PER_PIECE) {
                return Some(Piece::Bytes(out.into()));
            }
        }
        (!self.ended).then(|| {
            self.ended = true;
            self.multipart.write_end(&mut out);
            Piece::Bytes(out.into())
        })
    }
}

/// Bytes of a range, at most [`usize::MAX`].
fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// The bytes of `range`, which lies within the file.
pub(crate) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    // A file in memory is no longer than its bytes, which fit a usize.
    &bytes[range.start as usize..range.end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(mut body: BodySource, max: usize) -> Vec<Bytes> {
        let max = NonZeroUsize::new(max).unwrap();
        let mut pieces = Vec::new();
        while let Next::Piece(Piece::Bytes(piece)) = body.next_now(max) {
            pieces.push(piece);
        }
        assert!(body.is_complete());
        pieces
    }

    #[test]
    fn pieces_are_as_long_as_the_caller_allows() {
        let rows: [(usize, &[&str]); 4] = [
            (1, &["a", "b", "c", "d", "e"]),
            (2, &["ab", "cd", "e"]),
            (5, &["abcde"]),
            (usize::MAX, &["abcde"]),
        ];
        for (max, expected) in rows {
            let body = BodySource::from(Body::Static(b"abcde"));
            assert_eq!(pieces(body, max), expected, "{max}");
        }
        assert!(pieces(Body::Empty.into(), 1).is_empty());
    }
}
