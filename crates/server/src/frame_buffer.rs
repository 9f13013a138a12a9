//! A buffer for frames that are built and sent without an await in between.

use std::array::from_fn;
use std::convert::Infallible;
use std::io::IoSliceMut;

/// The most frames whose payload is written together. More are left to the next send.
const FRAMES_MAX: usize = 4;

/// Bytes of heads that may precede them in the same send.
const HEADS_BYTES: usize = 2048;

/// Bytes of the header of a frame (RFC 9113, section 4.1).
pub(crate) const HEADER_BYTES: usize = 9;

/// Frames with less payload, for lack of room, are left to the next send.
const PAYLOAD_BYTES_MIN: usize = 4096;

/// The longest frames of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FrameSize {
    /// The least that a peer takes: 16 KiB of payload (RFC 9113, section 4.2).
    #[default]
    Full,
    /// With its header it is 16 KiB long, and so fills a TLS record.
    Record,
}

impl FrameSize {
    /// The most bytes of payload.
    pub(crate) const fn payload(self) -> usize {
        match self {
            Self::Full => 16 * 1024,
            Self::Record => 16 * 1024 - HEADER_BYTES,
        }
    }

    const fn frame(self) -> usize {
        HEADER_BYTES + self.payload()
    }
}

/// Frames that are sent with one call. Payload is written where it is sent from, behind the room
/// for its header.
#[derive(Default)]
pub(crate) struct FrameBuffer {
    /// Beyond the used bytes it holds old ones, so that payload is not cleared before it is
    /// written.
    bytes: Vec<u8>,
    used: usize,
    /// Frames on their way to `bytes`.
    appended: Vec<u8>,
    size: FrameSize,
}

impl FrameBuffer {
    /// Begins the frames of a connection.
    pub(crate) fn begin(&mut self, size: FrameSize) {
        self.clear();
        self.size = size;
    }

    /// Bytes that are usually sent with one call.
    fn limit(&self) -> usize {
        FRAMES_MAX * self.size.frame() + HEADS_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether it should be sent before anything is added.
    pub(crate) fn is_full(&self) -> bool {
        self.used >= FRAMES_MAX * self.size.frame()
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// The frames.
    pub(crate) fn frames(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    pub(crate) fn clear(&mut self) {
        self.used = 0;
        if self.bytes.len() > 2 * self.limit() {
            self.bytes = Vec::new();
        }
    }

    /// Adds the frames that `write` appends to its argument.
    pub(crate) fn append<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.appended.clear();
        let result = write(&mut self.appended);
        let len = self.appended.len();
        self.reserve(len);
        self.bytes[self.used..][..len].copy_from_slice(&self.appended);
        self.used += len;
        result
    }

    /// The most payload that another frame may have; `None` if too little is left.
    pub(crate) fn room(&self) -> Option<usize> {
        let room = self.limit().saturating_sub(self.used + HEADER_BYTES);
        (room >= PAYLOAD_BYTES_MIN).then_some(room.min(self.size.payload()))
    }

    /// The header and the payload of a frame with at most `len` bytes of payload, which
    /// [`FrameBuffer::add`] adds. They hold old bytes.
    pub(crate) fn next_frame(&mut self, len: usize) -> (&mut [u8; HEADER_BYTES], &mut [u8]) {
        self.reserve(HEADER_BYTES + len);
        let rest = &mut self.bytes[self.used..];
        let (header, payload) = rest.split_first_chunk_mut().expect("room for it");
        (header, &mut payload[..len])
    }

    /// Adds the next frame, with `len` bytes of payload.
    pub(crate) fn add(&mut self, len: usize) {
        self.used += HEADER_BYTES + len;
    }

    /// Room for `len` bytes of payload, or fewer if the buffer has not that much, in frames that
    /// [`FrameBuffer::add_frames`] adds.
    pub(crate) fn payload(&mut self, len: usize) -> Payload<'_> {
        let frames = len.div_ceil(self.size.payload());
        let region = len.saturating_add(frames.saturating_mul(HEADER_BYTES));
        let room = self.limit().saturating_sub(self.used);
        let region = region.min(room).min(FRAMES_MAX * self.size.frame());
        self.reserve(region);
        Payload {
            region: &mut self.bytes[self.used..][..region],
            used: 0,
            size: self.size,
        }
    }

    /// Adds the frames of `len` bytes of payload, one if there are none. `header` writes the header
    /// of a frame, given its bytes of payload and whether it is the last.
    pub(crate) fn add_frames(
        &mut self,
        mut len: usize,
        mut header: impl FnMut(usize, bool, &mut [u8; HEADER_BYTES]),
    ) {
        loop {
            let payload = len.min(self.size.payload());
            len -= payload;
            let (room, _) = self.next_frame(payload);
            header(payload, len == 0, room);
            self.add(payload);
            if len == 0 {
                return;
            }
        }
    }

    fn reserve(&mut self, len: usize) {
        let required = (self.used + len).max(self.limit());
        if self.bytes.len() < required {
            self.bytes.resize(required, 0);
        }
    }
}

/// Room for payload, with gaps for the headers of frames. It holds old bytes.
pub(crate) struct Payload<'a> {
    region: &'a mut [u8],
    /// Bytes of payload.
    used: usize,
    size: FrameSize,
}

impl Payload<'_> {
    /// Bytes of payload so far.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn is_full(&self) -> bool {
        let frame = self.size.frame();
        let (frames, rest) = (self.region.len() / frame, self.region.len() % frame);
        self.used == frames * self.size.payload() + rest.saturating_sub(HEADER_BYTES)
    }

    /// Appends the first of `bytes`, as many as there is room for. Returns how many.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let fill = |parts: &mut [IoSliceMut<'_>]| {
            for part in parts {
                let (here, others) = rest.split_at(part.len());
                part.copy_from_slice(here);
                rest = others;
            }
            Ok::<_, Infallible>(Some(bytes.len() - rest.len()))
        };
        let Ok(count) = self.append_with(bytes.len(), fill);
        count.unwrap_or(0)
    }

    /// Appends at most `max` bytes. `fill` is given the free parts, and returns how many it wrote
    /// from the start of the first on; what it returns is returned.
    pub(crate) fn append_with<E>(
        &mut self,
        max: usize,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<Option<usize>, E>,
    ) -> Result<Option<usize>, E> {
        let mut parts: [_; FRAMES_MAX] = from_fn(|_| IoSliceMut::new(&mut []));
        let (mut count, mut skipped, mut left) = (0, self.used, max);
        for frame in self.region.chunks_mut(self.size.frame()) {
            let payload = frame.get_mut(HEADER_BYTES..).unwrap_or_default();
            let skip = skipped.min(payload.len());
            skipped -= skip;
            let len = (payload.len() - skip).min(left);
            left -= len;
            if len > 0 {
                parts[count] = IoSliceMut::new(&mut payload[skip..][..len]);
                count += 1;
            }
        }
        let filled = fill(&mut parts[..count])?;
        self.used += filled.unwrap_or(0);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(size: FrameSize) -> FrameBuffer {
        let mut buffer = FrameBuffer::default();
        buffer.begin(size);
        buffer
    }

    #[test]
    fn four_full_frames_are_four_full_records() {
        let mut buffer = buffer(FrameSize::Record);
        let mut frames = 0;
        while let Some(room) = buffer.room() {
            let (_, payload) = buffer.next_frame(room);
            assert_eq!(payload.len(), 16_375);
            buffer.add(room);
            frames += 1;
            assert_eq!(buffer.len() % (16 * 1024), 0);
        }
        assert_eq!((frames, buffer.len()), (4, 64 * 1024));
        assert!(buffer.is_full());
    }

    #[test]
    fn a_head_and_64_kib_leave_together() {
        for (size, frames) in [(FrameSize::Full, 4), (FrameSize::Record, 4)] {
            let mut buffer = buffer(size);
            buffer.append(|out| out.extend([1; 200]));
            let mut payload = buffer.payload(frames * size.payload());
            payload.append(&vec![2; 100_000]);
            assert_eq!(payload.len(), frames * size.payload());
            let len = payload.len();
            buffer.add_frames(len, |_, _, _| ());
            assert!(buffer.is_full() && buffer.room().is_none());
        }
    }

    #[test]
    fn payload_has_gaps_for_headers() {
        let mut buffer = buffer(FrameSize::Full);
        let payload_max = FrameSize::Full.payload();
        buffer.append(|out| out.extend([1; 3000]));
        let bytes: Vec<u8> = (0..100_000_u32)
            .map(|number| (number % 251) as u8)
            .collect();
        let mut payload = buffer.payload(bytes.len());
        let mut written = 0;
        for piece in [5, 16_370, 1, 40_000, 40_000] {
            assert!(!payload.is_full());
            written += payload.append(&bytes[written..][..piece]);
        }
        // Three full frames, and what is left behind the head.
        let short = payload_max - (3000 - HEADS_BYTES);
        assert_eq!(written, 3 * payload_max + short);
        assert!(payload.is_full() && payload.len() == written);
        let mut frames = Vec::new();
        buffer.add_frames(written, |len, is_last, header| {
            header.fill(9);
            frames.push((len, is_last));
        });
        let full = (payload_max, false);
        assert_eq!(frames, [full, full, full, (short, true)]);
        let mut read = Vec::<u8>::new();
        for frame in buffer.frames()[3000..].chunks(FrameSize::Full.frame()) {
            assert_eq!(frame[..HEADER_BYTES], [9; HEADER_BYTES]);
            read.extend(&frame[HEADER_BYTES..]);
        }
        assert!(read == bytes[..written]);
        let mut empty = FrameBuffer::default();
        assert!(empty.payload(0).is_full());
        empty.add_frames(0, |len, is_last, _| assert_eq!((len, is_last), (0, true)));
        assert_eq!(empty.len(), HEADER_BYTES);
    }

    #[test]
    fn what_is_appended_may_exceed_the_usual_size() {
        let mut buffer = buffer(FrameSize::Full);
        assert!(buffer.is_empty());
        buffer.append(|out| out.extend([1; 100]));
        assert_eq!(buffer.room(), Some(FrameSize::Full.payload()));
        let (header, payload) = buffer.next_frame(2);
        header.fill(2);
        payload.fill(3);
        buffer.add(1);
        assert_eq!(buffer.frames()[100..], [2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        let long = vec![4; 70_000];
        buffer.append(|out| out.extend(&long));
        assert_eq!((buffer.len(), buffer.room()), (70_110, None));
        assert!(buffer.frames()[110..] == long);
        buffer.clear();
        assert!(buffer.is_empty());
    }
}
