//! Bounds that several sections have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{ValueError, rules};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Checks an address that no other listener of this configuration has.
pub(super) fn new_address(
    text: &str,
    line: String,
    seen: &mut BTreeMap<String, String>,
) -> Result<String, ValueError> {
    let address = rules::address(text)?;
    rules::not_seen(seen, &address, line)?;
    Ok(address)
}
