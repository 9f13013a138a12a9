//! Process 1 of a container, after an upgrade: its end would be the container's. So it stays until
//! its successors have ended, passes signals on to them, and reaps what ends.

use std::fs;
use std::process;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::event::Event;

/// Whether this process is process 1.
pub(super) fn is_this() -> bool {
    process::id() == 1
}

/// Passes the signal of `event` on to the processes that came after, if it is one. All get it: the
/// last one serves, and one that lets its connections end opens its logs again, ends at a stop, and
/// refuses the rest.
pub(super) fn pass_on(event: &Event) {
    let signal = match event {
        Event::Stop => Signal::TERM,
        Event::Reload(None) => Signal::HUP,
        Event::ReopenLogs => Signal::USR1,
        Event::Upgrade => Signal::USR2,
        _ => return,
    };
    for successor in successors() {
        tracing::info!("passing {signal:?} on to process {successor}");
        // An error means that it has ended.
        let _ = kill_process(successor, signal);
    }
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

/// The descendants that run this program. Others are orphans that some process of the container
/// left.
fn successors() -> Vec<Pid> {
    let name = |id: &str| fs::read_to_string(format!("/proc/{id}/comm")).ok();
    let own = name("self");
    let mut found = children("self");
    let mut seen = 0;
    while let Some(id) = found.get(seen) {
        found.extend(children(&id.to_string()));
        seen += 1;
    }
    found.retain(|id| name(&id.to_string()) == own);
    found.into_iter().filter_map(Pid::from_raw).collect()
}

/// The children of process `id` (proc(5)).
fn children(id: &str) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{id}/task"));
    let threads = threads.into_iter().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let numbers = |list: String| -> Vec<i32> {
        let numbers = list.split_whitespace();
        numbers.filter_map(|number| number.parse().ok()).collect()
    };
    lists.flat_map(numbers).collect()
}
