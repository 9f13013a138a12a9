//! From received bytes to frames.

use std::borrow::Cow;
use std::mem;

use super::{FRAME_HEADER_BYTES, FrameHeader, PAYLOAD_BYTES_MAX};
use crate::ConnectionError;

/// What a client sends first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// The received part of an incomplete frame, with its header. It grows with what is received,
    /// not with what its header says.
    partial: Vec<u8>,
    /// Bytes of a payload that are dropped when they come.
    dropped: u32,
    /// Bytes of the preface that were received.
    preface: u8,
    /// Whether the SETTINGS have come that belong to the preface (RFC 9113, section 3.4).
    pub(crate) has_settings: bool,
}

/// A frame, as far as it is looked at: what is dropped of its payload may still have to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'i> {
    pub(crate) header: FrameHeader,
    /// The header, and what is kept of the payload.
    bytes: Cow<'i, [u8]>,
}

impl Frame<'_> {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[FRAME_HEADER_BYTES..]
    }
}

impl FrameReader {
    /// Whether nothing is received in part.
    pub(crate) fn is_at_start(&self) -> bool {
        self.partial.is_empty() && self.dropped == 0 && self.has_settings
    }

    /// Takes the next frame from the front of `input`, behind the preface. `None`: all of it is
    /// used. A frame that is in `input` as a whole is not copied.
    #[inline]
    pub(crate) fn next<'i>(
        &mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'i>>, ConnectionError> {
        if (self.preface as usize) < PREFACE.len() {
            self.take_preface(input)?;
        }
        self.drop_payload(input);
        if self.partial.is_empty()
            && let Some((header, _)) = input.split_first_chunk()
        {
            let header = checked(*header)?;
            if let Some((frame, rest)) = input.split_at_checked(FRAME_HEADER_BYTES + header.len) {
                *input = rest;
                return Ok(Some(Frame {
                    header,
                    bytes: Cow::Borrowed(&frame[..FRAME_HEADER_BYTES + header.kept()]),
                }));
            }
        }
        self.next_partial(input)
    }

    fn take_preface(&mut self, input: &mut &[u8]) -> Result<(), ConnectionError> {
        let rest = &PREFACE[self.preface as usize..];
        let (received, behind) = input.split_at(rest.len().min(input.len()));
        if !rest.starts_with(received) {
            return Err(ConnectionError::Preface);
        }
        self.preface += received.len() as u8;
        *input = behind;
        Ok(())
    }

    /// Drops what is to be dropped.
    #[inline]
    fn drop_payload(&mut self, input: &mut &[u8]) {
        let len = input.len().min(self.dropped as usize);
        *input = &input[len..];
        self.dropped -= len as u32;
    }

    /// Completes the partial frame, or begins one.
    fn next_partial(
        &mut self,
        input: &mut &[u8],
    ) -> Result<Option<Frame<'static>>, ConnectionError> {
        self.fill(FRAME_HEADER_BYTES, input);
        let Some((header, _)) = self.partial.split_first_chunk() else {
            return Ok(None);
        };
        let header = checked(*header)?;
        let len = FRAME_HEADER_BYTES + header.kept();
        self.fill(len, input);
        if self.partial.len() < len {
            return Ok(None);
        }
        self.dropped = (header.len - header.kept()) as u32;
        self.drop_payload(input);
        Ok(Some(Frame {
            header,
            bytes: Cow::Owned(mem::take(&mut self.partial)),
        }))
    }

    /// Moves bytes from the front of `input` until there are `len`.
    fn fill(&mut self, len: usize, input: &mut &[u8]) {
        let missing = len.saturating_sub(self.partial.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(taken);
        *input = rest;
    }
}

/// The header, if the frame may be that large.
#[inline]
fn checked(header: [u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, ConnectionError> {
    let header = FrameHeader::parse(header);
    if header.len > PAYLOAD_BYTES_MAX {
        return Err(ConnectionError::FrameTooLarge);
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    /// The frames in `pieces`, as they come.
    fn read(pieces: &[&[u8]]) -> (Vec<(FrameHeader, Vec<u8>)>, Option<ConnectionError>) {
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        for mut piece in pieces.iter().copied() {
            loop {
                match reader.next(&mut piece) {
                    Ok(Some(frame)) => frames.push((frame.header, frame.payload().to_vec())),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert_eq!(piece, b"", "all is used");
        }
        (frames, None)
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        write(4, 0, 0, b"", &mut bytes);
        write(1, 1, 1, &[7; 300], &mut bytes);
        write(0, 8, 1, b"\x02ab\0\0", &mut bytes);
        write(0, 1, 1, &[7; 300], &mut bytes);
        write(0x42, 1, 1, &[7; 20], &mut bytes);
        write(9, 0, 0, b"ab", &mut bytes);
        let (whole, error) = read(&[&bytes]);
        assert_eq!(error, None);
        let lens: Vec<_> = whole.iter().map(|(_, payload)| payload.len()).collect();
        assert_eq!(lens, [0, 300, 1, 0, 0, 2]);
        for at in 0..bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(read(&[front, back]).0, whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single).0, whole);
    }

    #[test]
    fn the_preface_is_compared_as_it_comes() {
        for at in 0..PREFACE.len() {
            let mut bytes = *PREFACE;
            assert_eq!(read(&[&bytes[..at]]), (vec![], None));
            bytes[at] ^= 1;
            let error = Some(ConnectionError::Preface);
            assert_eq!(read(&[&bytes[..=at]]), (vec![], error), "{at}");
            assert_eq!(read(&[&bytes[..at], &bytes[at..]]), (vec![], error), "{at}");
        }
    }

    /// RFC 9113, section 4.2: before the payload is there.
    #[test]
    fn a_frame_that_is_too_large_is_refused_by_its_header() {
        let mut header = [0, 0x40, 0x01, 0, 0, 0, 0, 0, 1];
        let error = Some(ConnectionError::FrameTooLarge);
        assert_eq!(read(&[PREFACE, &header]), (vec![], error));
        assert_eq!(
            read(&[PREFACE, &header[..3], &header[3..]]),
            (vec![], error)
        );
        header[2] = 0;
        assert_eq!(read(&[PREFACE, &header, &[0; 16_384]]).0.len(), 1);
    }
}
