//! A buffer for frames that are built and sent without an await in between.

/// Bytes that are sent with one call, unless a head makes it more: four full TLS records.
const BYTES: usize = 64 * 1024;

/// Bytes of the header of a frame (RFC 9113, section 4.1).
pub(crate) const HEADER_BYTES: usize = 9;

/// The most payload of a frame: with its header it fills a TLS record.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16 * 1024 - HEADER_BYTES;

/// Frames with less payload are left to the next send.
const PAYLOAD_BYTES_MIN: usize = 1024;

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
}

impl FrameBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether it should be sent before anything is added.
    pub(crate) fn is_full(&self) -> bool {
        self.used >= BYTES
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
        if self.bytes.len() > 2 * BYTES {
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
        let room = BYTES.saturating_sub(self.used + HEADER_BYTES);
        (room >= PAYLOAD_BYTES_MIN).then_some(room.min(PAYLOAD_BYTES_MAX))
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

    fn reserve(&mut self, len: usize) {
        let required = (self.used + len).max(BYTES);
        if self.bytes.len() < required {
            self.bytes.resize(required, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_full_frames_are_four_full_records() {
        let mut buffer = FrameBuffer::default();
        let mut frames = 0;
        while let Some(room) = buffer.room() {
            let (_, payload) = buffer.next_frame(room);
            assert_eq!(payload.len(), PAYLOAD_BYTES_MAX);
            buffer.add(room);
            frames += 1;
            assert_eq!(buffer.len() % (16 * 1024), 0);
        }
        assert_eq!((frames, buffer.len()), (4, BYTES));
        assert!(buffer.is_full());
    }

    #[test]
    fn what_is_appended_may_exceed_the_usual_size() {
        let mut buffer = FrameBuffer::default();
        assert!(buffer.is_empty());
        buffer.append(|out| out.extend([1; 100]));
        assert_eq!(buffer.room(), Some(PAYLOAD_BYTES_MAX));
        let (header, payload) = buffer.next_frame(2);
        header.fill(2);
        payload.fill(3);
        buffer.add(1);
        assert_eq!(buffer.frames()[100..], [2, 2, 2, 2, 2, 2, 2, 2, 2, 3]);
        let long = vec![4; BYTES];
        buffer.append(|out| out.extend(&long));
        assert_eq!((buffer.len(), buffer.room()), (110 + BYTES, None));
        assert!(buffer.frames()[110..] == long);
        buffer.clear();
        assert!(buffer.is_empty());
    }
}
