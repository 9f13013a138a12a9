//! A kernel that completes ops in any order, and moves fewer bytes than it could.

use fastrand::Rng;
use tidegate_uring::simulation::{Decide, Fate, Op, install};

struct Random(Rng);

impl Decide for Random {
    fn next(&mut self, ops: &[Op]) -> Option<(usize, Fate)> {
        let ready: Vec<usize> = (0..ops.len())
            .filter(|index| ops[*index].is_ready)
            .collect();
        if self.0.u32(0..3) == 0 {
            return None;
        }
        let index = self.0.choice(ready)?;
        let fate = match self.0.u32(0..4) {
            0 => Fate::Short(self.0.u32(1..100)),
            _ => Fate::Done,
        };
        Some((index, fate))
    }

    fn is_late(&mut self, _: &Op) -> bool {
        self.0.bool()
    }
}

/// The next ring has such a kernel.
pub(crate) fn simulate(rng: &mut Rng) {
    install(Random(rng.fork()));
}
