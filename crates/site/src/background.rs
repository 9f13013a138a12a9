//! Threads that work beside the cores.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// Leaves the core of the thread that started this one, and gives way to serving, the more the larger
/// `nice` is. What the host refuses is done without.
pub(crate) fn unpin_and_renice(nice: i32) {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU {
        all.set(cpu);
    }
    let _ = sched_setaffinity(None, &all);
    let _ = setpriority_process(Some(gettid()), nice);
}
