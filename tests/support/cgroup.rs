//! A cgroup for the servers of one test.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Launch, skipped};

const CGROUPS: &str = "/sys/fs/cgroup";

/// A cgroup for one server. Removed when it is dropped, which is after the server's end.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// With `limits` of version 2 or 1, files and what to write to them; `None`, and a line, where no such cgroup
    /// can be made.
    pub(crate) fn new(controller: &str, limits: [(&str, &str); 2]) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-test-{controller}-{}-{number}", process::id());
        for (parent, (file, value)) in ["", controller].into_iter().zip(limits) {
            let path = PathBuf::from(CGROUPS).join(parent).join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self(path);
            if group.0.join("cgroup.procs").exists() && fs::write(group.0.join(file), value).is_ok()
            {
                return Some(group);
            }
        }
        skipped(format_args!(
            "no cgroup with the {controller} controller can be made"
        ));
        None
    }

    /// With a limit of memory.
    pub(crate) fn of_memory(bytes: u64) -> Option<Self> {
        let bytes = bytes.to_string();
        let limits = [("memory.max", &*bytes), ("memory.limit_in_bytes", &*bytes)];
        Self::new("memory", limits)
    }

    /// Runs the server in it.
    pub(crate) fn holding(&self, launch: Launch) -> Launch {
        launch.through(self.entering())
    }

    /// What runs a program in it, which follows.
    pub(crate) fn entering(&self) -> [OsString; 4] {
        let file = self.0.join("cgroup.procs");
        let script = format!("echo $$ > {} && exec \"$@\"", file.display());
        ["sh", "-c", &script, "sh"].map(Into::into)
    }

    /// How many of its processes the kernel has ended for want of memory.
    #[track_caller]
    pub(crate) fn killed(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.0.join(file));
        let text = read("memory.events").or_else(|_| read("memory.oom_control"));
        let text = text.expect("the events of the cgroup");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count
            .and_then(|count| count.parse().ok())
            .expect("oom_kill")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
