//! The threads that the start needs, and whether they can be started.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;

use tidegate_config::{LogTarget, Settings};

use crate::host::finding::Verdict;

/// The main thread, those of the log, of signals and of the memory, and the launcher with the one that
/// waits for it.
const PROCESS: usize = 6;

/// The thread of a shard, those for look-ups, directories and codings, one of glommio, and the two
/// workers of the kernel with which its ring begins.
const PER_SHARD: usize = 7;

/// They do nothing, but the start of a thread needs some.
const STACK_BYTES: usize = 256 << 10;

/// Whether all threads for `shards` shards can be started: they are, for a moment.
pub(crate) fn verdict(settings: &Settings, shards: usize) -> Verdict {
    let needed = needed(settings, shards);
    let startable = startable(needed);
    if startable == needed {
        return Verdict::Good(format!("the {needed} threads of the start may be started"));
    }
    let text = format!(
        "{startable} threads may be started, and the start needs {needed}: raise the limit of \
         threads: pids.max of the cgroup (TasksMax=, --pids-limit) or RLIMIT_NPROC (`ulimit -u`, \
         LimitNPROC=), or use fewer cores"
    );
    Verdict::Bad(text.into())
}

fn needed(settings: &Settings, shards: usize) -> usize {
    let has_admin = !settings.admin.listen.is_empty();
    let has_tls = settings.listen.iter().any(|listen| listen.tls);
    PROCESS
        + usize::from(has_admin)
        + usize::from(has_tls)
        + log_files(settings)
        + PER_SHARD * shards
}

/// Files of access logs, each with a thread.
fn log_files(settings: &Settings) -> usize {
    let logs = settings.sites.iter().map(|site| &site.access_log.path);
    let logs = logs.filter(|path| **path != LogTarget::Off);
    logs.collect::<BTreeSet<_>>().len()
}

/// How many threads this process may have at once, up to `count`, with the calling one.
fn startable(count: usize) -> usize {
    let mut held = Vec::new();
    for _ in 1..count {
        let (end, ends) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || ends.recv().is_err());
        match thread {
            Ok(thread) => held.push((end, thread)),
            Err(_) => break,
        }
    }
    let started = held.len() + 1;
    for (end, thread) in held {
        drop(end);
        // It cannot panic.
        let _ = thread.join();
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_needed_for_what_is_configured() {
        let mut settings = Settings::for_directory(".".into());
        assert_eq!(needed(&settings, 2), 20);
        settings.admin.listen = "127.0.0.1:0".to_owned();
        settings.listen[0].tls = true;
        settings.sites[0].access_log.path = LogTarget::Stdout;
        settings.sites.push(settings.sites[0].clone());
        assert_eq!(needed(&settings, 1), 16);
        assert_eq!(startable(5), 5);
    }
}
