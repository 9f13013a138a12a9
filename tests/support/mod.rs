//! What the tests share: a directory tree, a server that serves it, and a client that trusts nothing.

mod authority;
mod cgroup;
mod client;
mod crowd;
pub(crate) mod http2;
mod kernel;
mod multipart;
mod origin;
mod peer;
mod random;
mod relay;
mod remote;
mod server;
mod skip;
mod strace;
mod tree;

use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity};

pub(crate) use authority::{Authority, Files, key_pair, secure};
pub(crate) use cgroup::Cgroup;
pub(crate) use client::{Client, Ending, Response, get, request, request_with};
pub(crate) use crowd::{Outcome, ask, can_connect, crowd, is_made_up, made_up};
pub(crate) use kernel::{kernel_sessions, release};
pub(crate) use multipart::content_range;
pub(crate) use origin::{Behaviour, Gate, Object, Origin, Request};
pub(crate) use peer::{Peer, free_address};
pub(crate) use random::Random;
pub(crate) use relay::{Relay, Wire};
pub(crate) use remote::{AnswerAtLast, Mishap, Question, Remote, SIZES};
pub(crate) use server::{Launch, Output, Server, is_root, mounts};
pub(crate) use skip::skipped;
pub(crate) use strace::{Call, Strace};
pub(crate) use tree::{SECRET, Tree, noise};

/// How long anything may take before the test calls it stuck.
pub(crate) const WATCHDOG: Duration = Duration::from_mins(1);

/// Waits until `condition` holds, and panics with `what` when it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WATCHDOG;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the program `name` can be run here; says so when it can't, since a test is then skipped.
pub(crate) fn installed(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        let package = package(name);
        skipped(format_args!(
            "{name} is not installed (apt-get install {package})"
        ));
    }
    found
}

/// The package of Debian that has the program `name`.
fn package(name: &str) -> &str {
    match name {
        "setpriv" | "prlimit" | "unshare" | "nsenter" => "util-linux",
        "fincore" => "util-linux-extra",
        "mkfs.ext4" => "e2fsprogs",
        "ss" => "iproute2",
        name => name,
    }
}

/// Two cores that this process may use; says so when there is only one, since a test is then skipped.
pub(crate) fn two_cores() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).expect("the cores this process may use");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let pair = cores.next().zip(cores.next());
    if pair.is_none() {
        skipped("one core only");
    }
    pair.map(Into::into)
}
