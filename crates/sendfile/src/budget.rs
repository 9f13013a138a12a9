//! How many pages of pipes this process may have.
//!
//! `fs.pipe-user-pages-soft` (64 MiB by default) bounds what all pipes of an unprivileged user
//! hold together. Past it the kernel makes new pipes of two pages that cannot grow, for every
//! program of that user.

use rustix::param::page_size;

/// The kernel's default, for when the limit cannot be read.
const PAGES_DEFAULT: usize = 16 * 1024;

/// `CAP_SYS_ADMIN` and `CAP_SYS_RESOURCE`: either one exempts.
const CAPABILITIES: u64 = 1 << 21 | 1 << 24;

/// Pipes larger than this are made only where all of them fit.
const PAGES_USUAL: usize = 64;

/// With this many pipes some can wait for the disk while others move.
const PIPES_WANTED: usize = 8;

/// The kernel's default size. Smaller pipes cost more calls than sharing them saves.
const PAGES_WANTED: usize = 16;

/// The bounds of a [`Pool`](crate::Pool).
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Bytes that a pipe is to hold: a power of two of at least a page, else the next lower one.
    /// Where `pages_max` allows fewer than `pipes_max` of them, pipes are smaller, down to 64
    /// pages; where it allows fewer than eight, down to 16; and smaller than that where not even
    /// two would fit.
    pub pipe_bytes: usize,
    /// The most pipes there may be; at least 1. With only one, a transfer that waits for the disk
    /// keeps it from all others.
    pub pipes_max: usize,
    /// The most pages of memory that all pipes together may hold, see
    /// [`pages_of_user`]; `None`: no limit. Two pipes of a page each are
    /// allowed in any case.
    pub pages_max: Option<usize>,
    /// The most transfers that may wait for the files of one device at once, each with a pipe; at
    /// least 1. All devices together have at most twice as many, divided by
    /// [`Shares`](tidegate_uring::Shares), and at most half of the pipes that `pipes_max` and
    /// `pages_max` allow.
    ///
    /// At most half as many transfers, at least one, prefetch at once, whatever the number of
    /// pipes.
    pub cold_max: usize,
}

impl PoolConfig {
    /// The most pipes of a pool with these bounds, and the bytes that each holds.
    pub fn fit(&self) -> (usize, usize) {
        let bounds = Bounds::new(self);
        (bounds.pipes_max, bounds.pipe_pages * page_size())
    }
}

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

/// The bounds of a pool, with its pages shared out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Pages of each pipe: a power of two.
    pub(crate) pipe_pages: usize,
    /// The most pipes; together they fit the pages.
    pub(crate) pipes_max: usize,
    /// The most transfers that may wait for a disk with a pipe, which leaves one to the others
    /// unless there is only one.
    pub(crate) cold_max: usize,
    /// The most transfers that may prefetch.
    pub(crate) ahead_max: usize,
}

impl Bounds {
    /// Where pages are few, pipes are made smaller so that all fit, but not smaller than
    /// [`PAGES_USUAL`] unless that is what it takes for [`PIPES_WANTED`] to fit, nor smaller than
    /// [`PAGES_WANTED`] unless that is what it takes for two.
    pub(crate) fn new(config: &PoolConfig) -> Self {
        let pipes_max = config.pipes_max.max(1);
        let two = pipes_max.min(2);
        let pages_max = config.pages_max.unwrap_or(usize::MAX).max(two);
        let all = power_of_two(pages_max / pipes_max);
        let several = power_of_two(pages_max / pipes_max.min(PIPES_WANTED));
        let pipe_pages = power_of_two(config.pipe_bytes / page_size())
            .min(all.max(several.clamp(PAGES_WANTED, PAGES_USUAL)))
            .min(power_of_two(pages_max / two));
        let pipes_max = pipes_max.min(pages_max / pipe_pages);
        Self {
            pipe_pages,
            pipes_max,
            // Twice the bound for one device, which leaves as many for others.
            cold_max: config.cold_max.saturating_mul(2).min(pipes_max / 2).max(1),
            ahead_max: config.cold_max.max(1),
        }
    }
}

/// The largest one up to `count`; at least 1.
fn power_of_two(count: usize) -> usize {
    1 << count.max(1).ilog2()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn share(limit: &str, exempt: bool, shards: usize) -> Option<usize> {
    let limit = limit.trim().parse().unwrap_or(PAGES_DEFAULT);
    (limit > 0 && !exempt).then(|| (limit - limit / 8) / shards.max(1))
}

/// The kernel checks the capability in the initial user namespace, so a container's root is not
/// exempt. The initial namespace maps all ids to themselves.
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

    fn bounds(
        pipe_pages: usize,
        pipes_max: usize,
        pages_max: Option<usize>,
        cold_max: usize,
    ) -> (usize, usize, usize) {
        let bounds = Bounds::new(&PoolConfig {
            pipe_bytes: pipe_pages * page_size(),
            pipes_max,
            pages_max,
            cold_max,
        });
        (bounds.pipe_pages, bounds.pipes_max, bounds.cold_max)
    }

    #[test]
    fn pages_are_shared_out() {
        // pages_max; pages of a pipe of at most 64, pipes of at most 128, cold of at most 2 x 16
        let cases = [
            (None, (64, 128, 32)),
            (Some(14336), (64, 128, 32)),
            (Some(1024), (64, 16, 8)),
            (Some(512), (64, 8, 4)),
            (Some(511), (32, 15, 7)),
            (Some(256), (32, 8, 4)),
            (Some(224), (16, 14, 7)),
            (Some(128), (16, 8, 4)),
            (Some(64), (16, 4, 2)),
            (Some(32), (16, 2, 1)),
            (Some(31), (8, 3, 1)),
            (Some(3), (1, 3, 1)),
            (Some(2), (1, 2, 1)),
            (Some(0), (1, 2, 1)),
        ];
        for (pages_max, expected) in cases {
            assert_eq!(bounds(64, 128, pages_max, 16), expected, "{pages_max:?}");
        }
    }

    #[test]
    fn large_pipes_take_no_room_from_others() {
        // pages_max; pages of a pipe of at most 256, pipes of at most 128
        let cases = [
            (None, (256, 128)),
            (Some(128 * 256), (256, 128)),
            (Some(128 * 256 - 1), (128, 128)),
            (Some(14336), (64, 128)),
            (Some(1024), (64, 16)),
            (Some(224), (16, 14)),
        ];
        for (pages_max, expected) in cases {
            let (pages, pipes, _) = bounds(256, 128, pages_max, 16);
            assert_eq!((pages, pipes), expected, "{pages_max:?}");
        }
    }

    #[test]
    fn the_configured_bounds_hold() {
        // Spare pages make no pipes beyond the configured number.
        assert_eq!(bounds(64, 2, Some(128), 16), (64, 2, 1));
        assert_eq!(bounds(64, 1, Some(64), 16), (64, 1, 1));
        assert_eq!(bounds(64, 0, Some(0), 0), (1, 1, 1));
        assert_eq!(bounds(100, 8, None, 16), (64, 8, 4));
        assert_eq!(bounds(0, 8, None, 1), (1, 8, 2));
        assert_eq!(bounds(4, 8, Some(8), 3), (4, 2, 1));
    }

    #[test]
    fn half_as_many_transfers_prefetch_as_wait_for_the_disk() {
        // All devices together have twice the bound for one.
        for (cold_max, expected) in [(0, 1), (1, 1), (2, 2), (16, 16), (1024, 1024)] {
            let config = PoolConfig {
                pipe_bytes: page_size(),
                pipes_max: 2,
                pages_max: None,
                cold_max,
            };
            assert_eq!(Bounds::new(&config).ahead_max, expected, "{cold_max}");
        }
    }

    #[test]
    fn one_pipe_is_always_left_to_transfers_from_memory() {
        for pages_max in 0..2000 {
            for pipes_max in [2, 3, 7, 8, 100] {
                let (pages, pipes, cold) = bounds(64, pipes_max, Some(pages_max), 1000);
                assert!(
                    cold < pipes && pipes <= pipes_max,
                    "{pages_max} {pipes_max}"
                );
                assert!(pages * pipes <= pages_max.max(2), "{pages_max} {pipes_max}");
            }
        }
    }
}
