//! What the kernel is, and what it has done.

use std::fs;

/// The kernel's version, as far as it tells what it can do.
pub(crate) fn release() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    let release = next().zip(next());
    release.expect("two numbers")
}

/// On how many connections of this network the kernel has begun to encrypt by itself since it was started;
/// none without its TLS.
pub(crate) fn kernel_sessions() -> u64 {
    let text = fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TlsTxSw"));
    line.map_or(0, |count| count.trim().parse().expect("a number"))
}
