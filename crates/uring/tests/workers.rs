//! Ops that need a worker of the kernel where no more threads can be started.
//!
//! One test, for the limit is the whole process's.

mod support;

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, OFlags, ResolveFlags, StatxFlags};
use rustix::pipe::SpliceFlags;
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use rustix::thread::set_thread_uid;
use support::{executor, pipe, ring, watch};
use tidegate_uring::{Error, Fd, Ring};

/// A user to whom the limit applies, unlike root.
const NOBODY: u32 = 65534;

/// Sets how many threads the user may have.
fn limit_threads(threads: Option<u64>) {
    let maximum = getrlimit(Resource::Nproc).maximum;
    let limit = Rlimit {
        current: threads.or(maximum),
        maximum,
    };
    setrlimit(Resource::Nproc, limit).unwrap();
}

/// Runs `test` with a ring, in a thread that can start no other.
fn without_threads(start_before: bool, test: impl AsyncFnOnce(Ring) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        executor().run(async {
            let ring = ring();
            if getuid().is_root() {
                // Of this thread alone.
                set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
            }
            if start_before {
                ring.start_workers().await.unwrap();
            }
            limit_threads(Some(1));
            test(ring).await;
        });
    });
    let outcome = thread.join();
    limit_threads(None);
    outcome.unwrap();
}

/// Three ops of each kind at once.
async fn work(ring: &Ring) {
    let root = Fd::from(OwnedFd::from(std::fs::File::open("/").unwrap()));
    let zeros = Fd::from(OwnedFd::from(std::fs::File::open("/dev/zero").unwrap()));
    let (_reader, writer) = pipe();
    let writer = Fd::from(writer);
    let ops: Vec<_> = (0..3)
        .map(|_| {
            let (name, flags) = (CString::from(c"."), AtFlags::empty());
            let stat = ring.statx(&root, name.clone(), flags, StatxFlags::TYPE);
            let open = ring.openat2(&root, name, OFlags::RDONLY, ResolveFlags::BENEATH);
            let splice = ring.splice(&zeros, None, &writer, None, 10, SpliceFlags::empty());
            (stat, open, splice)
        })
        .collect();
    for (stat, open, splice) in ops {
        stat.await.unwrap();
        open.await.unwrap();
        assert_eq!(splice.await.unwrap(), 10);
    }
}

#[test]
fn workers_that_were_started_serve_where_no_more_are_to_be_had() {
    let _watched = watch();
    without_threads(true, async |ring| work(&ring).await);
    without_threads(false, async |ring| {
        let refused = ring.start_workers().await;
        assert!(matches!(refused, Err(Error::NoWorker)), "{refused:?}");
    });
}
