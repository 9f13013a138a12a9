//! Which core a connection goes to.

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::{Launch, Tree, two_cores};

/// Enough for a hash to spread them over two cores, but for one time in 2^31.
const CONNECTIONS: u64 = 32;

#[test]
fn connections_go_to_the_core_that_handles_their_packets() {
    let Some(cores) = two_cores() else { return };
    // In both orders: what counts is a shard's core, not its number.
    for cores in [cores, [cores[1], cores[0]]] {
        for core in cores {
            let counts = counts("cpu", cores, core);
            let expected = cores.map(|other| if other == core { CONNECTIONS } else { 0 });
            assert_eq!(counts, expected, "from core {core} of {cores:?}");
        }
    }
}

#[test]
fn connections_from_other_cores_are_spread() {
    let Some([served, other]) = two_cores() else {
        return;
    };
    assert_eq!(counts("cpu", [served], other), [CONNECTIONS]);
}

#[test]
fn connections_are_spread_unless_told_otherwise() {
    let Some(cores) = two_cores() else { return };
    let counts = counts("hash", cores, cores[0]);
    assert_eq!(counts.iter().sum::<u64>(), CONNECTIONS);
    assert!(!counts.contains(&0), "{counts:?}");
}

/// How many connections each shard of a server on `cores` has got of those made from the core `client`.
/// On loopback the core that sends a packet also receives it.
#[track_caller]
fn counts<const N: usize>(steering: &str, cores: [usize; N], client: usize) -> [u64; N] {
    let tree = Tree::with("file", b"text");
    let list = cores.map(|core| format!("{core}-{core}")).join(",");
    let config = format!("steering = \"{steering}\"");
    let mut server = Launch::run(&tree, &config, "")
        .arguments(["--cores", &list])
        .through(["env", "RUST_LOG=debug"])
        .start();
    let mut only = CpuSet::new();
    only.set(client);
    let before = sched_getaffinity(None).expect("this thread's cores");
    sched_setaffinity(None, &only).expect("a core of this process");
    for _ in 0..CONNECTIONS {
        assert_eq!(server.get("/file").body, b"text");
    }
    sched_setaffinity(None, &before).expect("the cores from before");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let log = server.log();
    std::array::from_fn(|shard| connections(&log, shard))
}

/// What shard number `shard` said of its connections when it stopped.
fn connections(log: &str, shard: usize) -> u64 {
    let line = log
        .lines()
        .find(|line| line.contains("stopped") && line.contains(&format!("shard={shard} ")));
    let count = line.and_then(|line| line.split("connections=").nth(1));
    let digits = count.and_then(|count| count.split(' ').next());
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("nothing of shard {shard} in:\n{log}"))
}
