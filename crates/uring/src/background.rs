//! Threads that work besides the pinned executors.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// Lets this thread run on any core, with a `nice` value that gives way to serving. What the host
/// refuses is skipped.
pub fn unpin_and_renice(nice: i32) {
    let mut all = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU {
        all.set(cpu);
    }
    let _ = sched_setaffinity(None, &all);
    let _ = setpriority_process(Some(gettid()), nice);
}
