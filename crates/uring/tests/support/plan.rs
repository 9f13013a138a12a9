//! A simulated kernel that completes ops in their order, but for one.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::Cell;
use std::rc::Rc;

use rustix::io::Errno;
use tidegate_uring::simulation::{Decide, Fate, Kind, Op};

/// The errors of a host that is short of something, of a disk, and of a peer.
pub(crate) const ERRORS: [Errno; 9] = [
    Errno::INTR,
    Errno::AGAIN,
    Errno::NOMEM,
    Errno::MFILE,
    Errno::NFILE,
    Errno::IO,
    Errno::NOSPC,
    Errno::CONNRESET,
    Errno::CANCELED,
];

/// What the kernel does.
#[derive(Default)]
pub(crate) struct Plan {
    /// Ops that were completed since the last [`Plan::begin`].
    pub(crate) completed: Cell<u64>,
    /// What happens to the op of this number instead.
    pub(crate) fault: Cell<Option<(u64, Fate)>>,
    /// The op to which it happened.
    pub(crate) met: Cell<Option<Kind>>,
    /// So many ops complete, and no more.
    pub(crate) most: Cell<Option<u64>>,
    /// Ops that are cancelled have just taken effect.
    pub(crate) is_late: Cell<bool>,
}

impl Plan {
    pub(crate) fn begin(&self) {
        self.completed.set(0);
        self.fault.set(None);
        self.met.set(None);
        self.most.set(None);
    }
}

/// The kernel that carries a plan out.
pub(crate) struct Kernel(pub(crate) Rc<Plan>);

impl Decide for Kernel {
    fn next(&mut self, ops: &[Op]) -> Option<(usize, Fate)> {
        let plan = &self.0;
        let number = plan.completed.get();
        if plan.most.get().is_some_and(|most| number >= most) {
            return None;
        }
        let ready = ops.iter().position(|op| op.is_ready);
        if let Some((faulty, fate)) = plan.fault.get()
            && faulty == number
            && let Some(index) = ready.or_else(|| waiting(ops, fate))
        {
            plan.met.set(Some(ops[index].kind));
            plan.fault.set(None);
            plan.completed.set(number + 1);
            return Some((index, fate));
        }
        let index = ready?;
        plan.completed.set(number + 1);
        Some((index, Fate::Done))
    }

    fn is_late(&mut self, _: &Op) -> bool {
        self.0.is_late.get()
    }
}

/// The op that came last, if it can have `fate` while it waits.
fn waiting(ops: &[Op], fate: Fate) -> Option<usize> {
    let last = ops.len().checked_sub(1)?;
    matches!(fate, Fate::Failed(_)).then_some(last)
}
