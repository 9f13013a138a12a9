//! What is behind the bytes of a blob: whether they are all there, and since when.

use std::fs;

/// Bytes of a footer.
pub(super) const FOOTER_LEN: u64 = 40;

/// The last byte is the version.
const MAGIC: [u8; 8] = *b"tgblob\0\x01";

/// Names the time since the host was started. Bytes of a file from before may be zeros: the file
/// system may have had its length on disk, but not yet its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BootId(pub(super) [u8; 16]);

impl BootId {
    /// That of the host (random(4)). If it cannot be read, a random one, which only means that all
    /// blobs are verified again.
    pub(super) fn of_host() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        let id = id.unwrap_or_else(|_| fastrand::u128(..));
        Self(id.to_be_bytes())
    }
}

/// Fields are little-endian, in this order, behind the magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// Bytes of the blob.
    pub(super) len: u64,
    /// XXH3-64 of them.
    pub(super) checksum: u64,
    /// When they were written.
    pub(super) boot_id: BootId,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_LEN as usize] {
        let mut bytes = [0; FOOTER_LEN as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[24..].copy_from_slice(&self.boot_id.0);
        bytes
    }

    /// `None` if it is none of this version.
    pub(super) fn decode(bytes: &[u8; FOOTER_LEN as usize]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (len, rest) = rest.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        Some(Self {
            len: u64::from_le_bytes(*len),
            checksum: u64::from_le_bytes(*checksum),
            boot_id: BootId(rest.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_read_as_it_was_written() {
        let footer = Footer {
            len: 0x0102_0304_0506_0708,
            checksum: u64::MAX - 1,
            boot_id: BootId([7; 16]),
        };
        let bytes = footer.encode();
        assert_eq!(Footer::decode(&bytes), Some(footer));
        for at in 0..8 {
            let mut wrong = bytes;
            wrong[at] ^= 1;
            assert_eq!(Footer::decode(&wrong), None, "{at}");
        }
    }

    #[test]
    fn the_host_has_one_boot_id() {
        assert_eq!(BootId::of_host(), BootId::of_host());
    }
}
