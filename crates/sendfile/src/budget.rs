//! How many pages of pipes this process may have.
//!
//! `fs.pipe-user-pages-soft` (64 MiB by default) bounds what all pipes of an unprivileged user
//! hold together. Past it the kernel makes new pipes of two pages that cannot grow, for every
//! program of that user.

use rustix::param::page_size;

/// What the kernel sets where the file that says so cannot be read.
const PAGES_DEFAULT: usize = 16 * 1024;

/// `CAP_SYS_ADMIN` and `CAP_SYS_RESOURCE`, either of which exempts.
const CAPABILITIES: u64 = 1 << 21 | 1 << 24;

/// The share of the user's pages for pipes that each of `shards` pools may have; `None`: there is
/// no limit.
///
/// An eighth is left to pipes of other kinds and to those that are being made. Reads
/// `/proc/sys/fs/pipe-user-pages-soft`, `/proc/self/status` and `/proc/self/uid_map`; where they
/// cannot be read the kernel's default is assumed, and that this process is not exempt.
pub fn pages_of_user(shards: usize) -> Option<usize> {
    let limit = read("/proc/sys/fs/pipe-user-pages-soft");
    let exempt = exempt(&read("/proc/self/status"), &read("/proc/self/uid_map"));
    share(&limit, exempt, shards)
}

/// The pages of the largest pipe of at most `bytes` that fits into `left` pages: a power of two,
/// at least 1.
pub(crate) fn pipe_pages(bytes: usize, left: usize) -> usize {
    let pages = (bytes / page_size()).min(left).max(1);
    1 << pages.ilog2()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn share(limit: &str, exempt: bool, shards: usize) -> Option<usize> {
    let limit = limit.trim().parse().unwrap_or(PAGES_DEFAULT);
    (limit > 0 && !exempt).then(|| (limit - limit / 8) / shards.max(1))
}

/// The kernel asks for the capability in the first user namespace, so that of a container's root
/// does not count: the first namespace is the one that maps all ids to themselves.
fn exempt(status: &str, uid_map: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let first_namespace = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    effective & CAPABILITIES != 0 && first_namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP_FIRST: &str = "         0          0 4294967295\n";

    #[test]
    fn the_limit_is_shared_with_an_eighth_left_aside() {
        assert_eq!(share("16384\n", false, 1), Some(14336));
        assert_eq!(share("16384\n", false, 64), Some(224));
        assert_eq!(share("16384\n", false, 0), Some(14336));
        assert_eq!(share("", false, 1), Some(14336));
        assert_eq!(share("0\n", false, 1), None);
        assert_eq!(share("16384\n", true, 1), None);
        assert_eq!(share("3\n", false, 16), Some(0));
    }

    #[test]
    fn only_capabilities_of_the_first_user_namespace_exempt() {
        let root = "Name:\tx\nCapEff:\t000001ffffffffff\n";
        assert!(exempt(root, MAP_FIRST));
        assert!(!exempt(root, "0 100000 65536\n"));
        assert!(exempt("CapEff:\t0000000000200000\n", MAP_FIRST));
        assert!(exempt("CapEff:\t0000000001000000\n", MAP_FIRST));
        assert!(!exempt("CapEff:\t0000000000400400\n", MAP_FIRST));
        assert!(!exempt("", MAP_FIRST));
    }

    #[test]
    fn a_pipe_takes_what_is_left() {
        let page = page_size();
        // bytes, left; pages
        let cases = [
            (64 * page, usize::MAX, 64),
            (64 * page, 64, 64),
            (64 * page, 63, 32),
            (64 * page, 1, 1),
            (64 * page, 0, 1),
            (100 * page, 1000, 64),
            (1, 1000, 1),
        ];
        for (bytes, left, pages) in cases {
            assert_eq!(pipe_pages(bytes, left), pages, "{bytes} bytes, {left} left");
        }
    }
}
