//! Helpers for the tests of several modules.

use super::{Decoder, Error};

/// The fields of a block, each as `name: value` and a line feed, and their size.
pub(super) fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<(String, usize), Error> {
    let mut lines = Vec::new();
    let mut scratch = b"of the block before".to_vec();
    let size = decoder.decode(block, 16 << 10, &mut scratch, |name, value| {
        lines.push(format!(
            "{}: {}\n",
            name.escape_ascii(),
            value.escape_ascii()
        ));
    })?;
    Ok((lines.concat(), size))
}
