//! Random numbers that can be had again.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that has the seed of a run that is to be repeated.
const SEED: &str = "TIDEGATE_TEST_SEED";

/// Numbers of a seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// Those of the seed in the environment or else of another one each time, which is printed.
    pub(crate) fn new() -> Self {
        let seed = env::var(SEED).map_or_else(|_| of_clock(), |seed| seed.parse().expect(SEED));
        println!("{SEED}={seed}");
        Self(seed)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn of_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").subsec_nanos().into()
}
