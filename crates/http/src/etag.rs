//! Entity tags made of what the file system says about a file.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

/// Two quotes, a dash and two numbers of 16 hexadecimal digits.
const BYTES_MAX: usize = 35;

/// A strong entity tag, `"<modification time>-<length>"` (RFC 9110, section 8.8.3).
///
/// The time is in nanoseconds since 1970, both numbers are hexadecimal. A file
/// that is written again within the resolution of the file system's clock and
/// keeps its length keeps its tag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl ETag {
    /// The tag of a file last modified at `modified`, of `size` bytes.
    pub fn new(modified: SystemTime, size: u64) -> Self {
        let mut bytes = [0; BYTES_MAX];
        let mut rest = &mut bytes[..];
        let written = write!(rest, "\"{:x}-{size:x}\"", nanoseconds(modified));
        debug_assert!(written.is_ok(), "two numbers of 64 bits fit");
        let len = BYTES_MAX - rest.len();
        Self { bytes, len }
    }

    /// The tag with its quotes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Nanoseconds since 1970 modulo 2^64, so that times before it differ as well.
fn nanoseconds(time: SystemTime) -> u64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as u64,
        Err(before) => (before.duration().as_nanos() as u64).wrapping_neg(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tag_tells_time_and_length() {
        let epoch = SystemTime::UNIX_EPOCH;
        let latest = epoch + Duration::from_nanos(u64::MAX);
        let cases = [
            (epoch, 0, "\"0-0\""),
            (epoch + Duration::new(1, 1), 255, "\"3b9aca01-ff\""),
            (latest, u64::MAX, "\"ffffffffffffffff-ffffffffffffffff\""),
            (epoch - Duration::from_nanos(1), 1, "\"ffffffffffffffff-1\""),
        ];
        for (modified, size, expected) in cases {
            let tag = ETag::new(modified, size);
            assert_eq!(tag.to_string(), expected);
            assert_eq!(tag.as_bytes(), expected.as_bytes());
        }
    }
}
