//! What is in the payload of a frame.

use super::{FrameHeader, MAX_31_BITS, flag};
use crate::ConnectionError;

/// The part of a header block that is in HEADERS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment<'p> {
    pub(crate) block: &'p [u8],
    /// Whether the stream depends on itself by its deprecated priority (RFC 7540, section 5.3.1),
    /// which is all that is looked at.
    pub(crate) depends_on_itself: bool,
}

/// Bytes in the payload of DATA, of which the length of padding is there, without padding (RFC
/// 9113, section 6.1).
#[inline]
pub(crate) fn data_len(header: FrameHeader, payload: &[u8]) -> Result<usize, ConnectionError> {
    if !header.has(flag::PADDED) {
        return Ok(header.len);
    }
    let (&padding, _) = payload.split_first().ok_or(ConnectionError::FrameLength)?;
    let len = header.len.checked_sub(1 + usize::from(padding));
    len.ok_or(ConnectionError::Padding)
}

/// The payload of a frame without padding.
#[inline]
fn unpadded(header: FrameHeader, payload: &[u8]) -> Result<&[u8], ConnectionError> {
    let len = data_len(header, payload)?;
    let start = usize::from(header.has(flag::PADDED));
    Ok(&payload[start..][..len])
}

/// The payload of HEADERS (RFC 9113, section 6.2).
#[inline]
pub(crate) fn headers(
    header: FrameHeader,
    payload: &[u8],
) -> Result<Fragment<'_>, ConnectionError> {
    let content = unpadded(header, payload)?;
    if !header.has(flag::PRIORITY) {
        return Ok(Fragment {
            block: content,
            depends_on_itself: false,
        });
    }
    let (dependency, rest) = content
        .split_first_chunk::<4>()
        .ok_or(ConnectionError::FrameLength)?;
    let (_weight, block) = rest.split_first().ok_or(ConnectionError::FrameLength)?;
    Ok(Fragment {
        block,
        depends_on_itself: u32::from_be_bytes(*dependency) & MAX_31_BITS == header.stream,
    })
}

/// The settings in the payload of SETTINGS, a number and a value each (RFC 9113, section 6.5.1).
pub(crate) fn settings(
    payload: &[u8],
) -> Result<impl Iterator<Item = (u16, u32)>, ConnectionError> {
    let (settings, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return Err(ConnectionError::FrameLength);
    }
    Ok(settings
        .iter()
        .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))))
}

/// A payload that is one number of 4 bytes.
#[inline]
pub(crate) fn number(payload: &[u8]) -> Result<u32, ConnectionError> {
    let bytes = payload
        .try_into()
        .map_err(|_| ConnectionError::FrameLength)?;
    Ok(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, payload: &[u8]) -> FrameHeader {
        FrameHeader {
            len: payload.len(),
            kind: 0,
            flags,
            stream: 3,
        }
    }

    #[test]
    fn padding_is_removed() {
        let padded = |payload| unpadded(header(flag::PADDED, payload), payload);
        let whole = b"\x01ab";
        assert_eq!(
            unpadded(header(0, whole), whole),
            Ok(&whole[..]),
            "no padding"
        );
        assert_eq!(padded(b"\x01ab"), Ok(&b"a"[..]));
        assert_eq!(padded(b"\x00ab"), Ok(&b"ab"[..]));
        assert_eq!(padded(b"\x02ab"), Ok(&b""[..]), "nothing but padding");
        assert_eq!(padded(b"\x03ab"), Err(ConnectionError::Padding));
        assert_eq!(padded(b""), Err(ConnectionError::FrameLength));
    }

    #[test]
    fn the_deprecated_priority_is_removed() {
        let priority = |payload| headers(header(flag::PRIORITY, payload), payload);
        let fragment = |block, depends_on_itself| {
            Ok(Fragment {
                block,
                depends_on_itself,
            })
        };
        assert_eq!(priority(b"\0\0\0\x01\x10ab"), fragment(b"ab", false));
        assert_eq!(priority(b"\x80\0\0\x03\x10ab"), fragment(b"ab", true));
        assert_eq!(priority(b"\0\0\0\x01\x10"), fragment(b"", false));
        for short in [&b"\0\0\0\x01"[..], b"\0\0", b""] {
            assert_eq!(priority(short), Err(ConnectionError::FrameLength));
        }
        let both = |payload| headers(header(flag::PRIORITY | flag::PADDED, payload), payload);
        assert_eq!(both(b"\x01\0\0\0\x01\x10ab"), fragment(b"a", false));
        // The padding reaches into the priority.
        assert_eq!(
            both(b"\x01\0\0\0\x01\x10"),
            Err(ConnectionError::FrameLength)
        );
    }
}
