//! What a reader may get of a stream of bytes.

use std::collections::VecDeque;

/// Names bytes that differ from those of all others, and from place to place.
pub(crate) type Source = u64;

/// `len` bytes of `source` from `start`.
pub(crate) fn content(source: Source, start: u64, len: usize) -> Vec<u8> {
    (start..start + len as u64)
        .map(|place| byte(source, place))
        .collect()
}

/// Bits of `splitmix64`.
fn byte(source: Source, place: u64) -> u8 {
    let mut word = source
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word >> 56) as u8
}

/// Names a piece of a stream.
pub(crate) type PieceId = u64;

/// Bytes that one write, send or splice put into the stream: the first `len` of them or, while it is
/// not known how many it moved, at most so many.
struct Piece {
    source: Source,
    start: u64,
    len: u64,
    is_exact: bool,
}

/// A place in the stream: before byte `offset` of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    piece: PieceId,
    offset: u64,
}

/// The pieces of a stream in their order, and the places at which its reader may be.
///
/// An op that was dropped moved an unknown number of bytes. So there may be several places, until
/// what is read shows which it was.
pub(crate) struct Expected {
    pieces: VecDeque<Piece>,
    /// The first of the pieces.
    first: PieceId,
    /// In ascending order; never empty.
    places: Vec<Place>,
    /// Bytes may be lost anywhere from here on.
    is_lossy: bool,
}

impl Expected {
    pub(crate) fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            first: 0,
            places: vec![Place {
                piece: 0,
                offset: 0,
            }],
            is_lossy: false,
        }
    }

    /// A piece of at most `len` bytes of `source` from `start`.
    pub(crate) fn open(&mut self, source: Source, start: u64, len: usize) -> PieceId {
        self.pieces.push_back(Piece {
            source,
            start,
            len: len as u64,
            is_exact: false,
        });
        self.end() - 1
    }

    /// It has exactly `len` bytes.
    pub(crate) fn settle(&mut self, piece: PieceId, len: usize) {
        // One that was read to its end may be gone: then another followed it.
        if let Some(index) = piece.checked_sub(self.first) {
            let piece = &mut self.pieces[index as usize];
            assert!(len as u64 <= piece.len, "more than there was to move");
            piece.len = len as u64;
            piece.is_exact = true;
        }
        let len = len as u64;
        self.places
            .retain(|place| place.piece != piece || place.offset <= len);
        assert!(
            !self.places.is_empty(),
            "the reader got more than the op has moved"
        );
    }

    /// A piece of exactly `len` bytes.
    pub(crate) fn push(&mut self, source: Source, len: usize) {
        let piece = self.open(source, 0, len);
        self.settle(piece, len);
    }

    /// Any bytes may be lost from now on.
    pub(crate) fn lose(&mut self) {
        self.is_lossy = true;
    }

    /// Any of the bytes that are there may have been lost.
    pub(crate) fn skip(&mut self) {
        let from = self.places[0];
        let mut places = Vec::new();
        for id in from.piece..self.end() {
            let start = if id == from.piece { from.offset } else { 0 };
            let len = self.piece(id).len;
            places.extend((start..=len).map(|offset| Place { piece: id, offset }));
        }
        places.push(self.end_place());
        places.dedup();
        self.places = places;
    }

    /// The reader got `bytes`.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        if self.is_lossy {
            self.skip();
        }
        let mut index = self.take_run(bytes);
        while let Some(byte) = bytes.get(index) {
            let after = self.after(*byte);
            assert!(
                !after.is_empty(),
                "byte {index} of {} is wrong at {:?}",
                bytes.len(),
                self.places
            );
            self.places = after;
            index += 1;
            index += self.take_run(&bytes[index..]);
        }
        while self.first < self.places[0].piece {
            self.pieces.pop_front();
            self.first += 1;
        }
    }

    /// Takes the first of `bytes` that are right where there is no doubt about the place: this is
    /// only faster.
    fn take_run(&mut self, bytes: &[u8]) -> usize {
        let [place] = &mut self.places[..] else {
            return 0;
        };
        let index = (place.piece - self.first) as usize;
        let is_last = index + 1 == self.pieces.len();
        let Some(piece) = self.pieces.get(index) else {
            return 0;
        };
        if !piece.is_exact && !is_last {
            return 0;
        }
        let places = piece.start + place.offset..piece.start + piece.len;
        let run = bytes.iter().zip(places);
        let run = run.take_while(|(value, place)| **value == byte(piece.source, *place));
        let count = run.count();
        place.offset += count as u64;
        count
    }

    /// Whether the reader may have got all.
    pub(crate) fn may_be_complete(&self) -> bool {
        self.is_lossy || self.reachable().contains(&self.end_place())
    }

    /// Bytes that the reader may still get, at most.
    pub(crate) fn left(&self) -> u64 {
        let all: u64 = self.pieces.iter().map(|piece| piece.len).sum();
        all - self.places[0].offset.min(all)
    }

    /// The places after a byte.
    fn after(&self, value: u8) -> Vec<Place> {
        let mut after = Vec::with_capacity(1);
        for place in self.reachable() {
            if place.piece == self.end() {
                continue;
            }
            let piece = self.piece(place.piece);
            if place.offset < piece.len && byte(piece.source, piece.start + place.offset) == value {
                after.push(Place {
                    offset: place.offset + 1,
                    ..place
                });
            }
        }
        after
    }

    /// The places, and those that follow them without a byte between.
    fn reachable(&self) -> Vec<Place> {
        let mut reachable = self.places.clone();
        let mut next = 0;
        while let Some(place) = reachable.get(next).copied() {
            next += 1;
            if place.piece == self.end() {
                continue;
            }
            let piece = self.piece(place.piece);
            if !piece.is_exact || place.offset == piece.len {
                let start = Place {
                    piece: place.piece + 1,
                    offset: 0,
                };
                if !reachable.contains(&start) {
                    reachable.push(start);
                }
            }
        }
        reachable.sort_unstable();
        reachable
    }

    fn piece(&self, id: PieceId) -> &Piece {
        &self.pieces[(id - self.first) as usize]
    }

    fn end(&self) -> PieceId {
        self.first + self.pieces.len() as u64
    }

    fn end_place(&self) -> Place {
        Place {
            piece: self.end(),
            offset: 0,
        }
    }
}

/// Three pieces: all of the first, some of the second, all of the third.
#[cfg(test)]
fn with_unknown_middle() -> Expected {
    let mut expected = Expected::new();
    expected.push(1, 10);
    expected.open(2, 0, 10);
    expected.push(3, 10);
    expected
}

#[test]
fn a_piece_of_unknown_length_may_have_any() {
    for middle in 0..=10 {
        let mut expected = with_unknown_middle();
        expected.take(&content(1, 0, 10));
        expected.take(&content(2, 0, middle));
        assert!(!expected.may_be_complete());
        expected.take(&content(3, 0, 10));
        assert!(expected.may_be_complete());
    }
}

#[test]
#[should_panic(expected = "byte 5 of 6 is wrong")]
fn a_byte_that_was_skipped_is_noticed() {
    let mut expected = with_unknown_middle();
    let mut bytes = content(1, 0, 5);
    bytes.push(content(1, 6, 1)[0]);
    expected.take(&bytes);
}

#[test]
#[should_panic(expected = "the reader got more than the op has moved")]
fn an_op_that_says_less_than_it_moved_is_noticed() {
    let mut expected = Expected::new();
    let piece = expected.open(1, 0, 10);
    expected.take(&content(1, 0, 8));
    expected.settle(piece, 7);
}

#[test]
fn after_a_loss_the_stream_goes_on_anywhere() {
    let mut expected = Expected::new();
    expected.push(1, 100);
    expected.take(&content(1, 0, 10));
    expected.skip();
    expected.take(&content(1, 40, 20));
    expected.take(&content(1, 60, 20));
    assert!(!expected.may_be_complete());
}

#[test]
#[should_panic(expected = "is wrong")]
fn after_a_loss_no_byte_comes_twice() {
    let mut expected = Expected::new();
    expected.push(1, 100);
    expected.lose();
    expected.take(&content(1, 50, 20));
    expected.take(&content(1, 40, 20));
}
