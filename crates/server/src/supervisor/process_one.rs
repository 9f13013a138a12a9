//! Process 1 of a container, after an upgrade: its end would be the container's. So it stays until
//! its successors have ended, passes signals on to the last one, and reaps what ends.

use std::fs;
use std::process;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::event::Event;

/// Whether this process is process 1.
pub(super) fn is_this() -> bool {
    process::id() == 1
}

/// Passes the signal of `event` on to the process that serves, if it is one.
pub(super) fn pass_on(event: &Event) {
    let signal = match event {
        Event::Stop => Signal::TERM,
        Event::Reload(_) => Signal::HUP,
        Event::ReopenLogs => Signal::USR1,
        Event::Upgrade => Signal::USR2,
        _ => return,
    };
    // An error means that it has ended.
    let _ = last_child().map(|child| kill_process(child, signal));
}

/// Reaps all children that have ended. Whether any is left.
pub(super) fn has_children() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// The child that was started last, as far as numbers tell (proc(5)).
fn last_child() -> Option<Pid> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let all = lists.flat_map(|list| {
        let numbers = list
            .split_whitespace()
            .filter_map(|number| number.parse().ok());
        numbers.collect::<Vec<i32>>()
    });
    all.max().and_then(Pid::from_raw)
}
