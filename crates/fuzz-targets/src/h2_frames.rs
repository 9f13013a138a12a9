//! As `h2_connection`, from a notation in which a changed byte seldom makes the lengths of all
//! frames behind it wrong.

use crate::h2_connection;

/// The bytes of the frames in all, at most.
const BYTES_MAX: usize = 64 << 10;

/// With this bit of the type the payload has zeros at its end, 64 for each of its bytes.
const PADDED: u8 = 0x80;

/// `data` is frames: a byte each for the type, the flags, the stream and the length, and the
/// payload.
pub(crate) fn check(data: &[u8]) {
    let mut frames = Vec::new();
    let mut rest = data;
    while let Some(([kind, flags, stream, len], behind)) = rest.split_first_chunk() {
        let (payload, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        let zeros = if kind & PADDED == 0 {
            0
        } else {
            64 * payload.len()
        };
        let [_, high, middle, low] = ((payload.len() + zeros) as u32).to_be_bytes();
        frames.extend([high, middle, low, kind & !PADDED, *flags, 0, 0, 0, *stream]);
        frames.extend_from_slice(payload);
        frames.resize(frames.len() + zeros, 0);
        if frames.len() > BYTES_MAX {
            break;
        }
    }
    h2_connection::check(&frames);
}
