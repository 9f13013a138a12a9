//! Files that are not in memory where the kernel has no worker to read them by.
//!
//! One test, for the limit of threads is the whole process's.

mod support;

use rustix::process::{Resource, Rlimit, Uid, getrlimit, getuid, setrlimit};
use rustix::thread::set_thread_uid;
use support::{Bench, PATIENT, connect, evicted_file_of, joined, pattern, read_all, run};
use tidegate_sendfile::sendfile_encoded;

/// A user whom the limit applies to, unlike root.
const NOBODY: u32 = 65534;

const LEN: usize = 3_000_000;

/// From here on this thread can start no other.
fn forbid_threads() {
    if getuid().is_root() {
        // Of this thread alone.
        set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
    }
    let limit = Rlimit {
        current: Some(1),
        maximum: getrlimit(Resource::Nproc).maximum,
    };
    setrlimit(Resource::Nproc, limit).unwrap();
}

#[test]
fn the_blocking_thread_sends_them_whole() {
    run(async {
        let bench = Bench::new().await;
        let data = pattern(LEN);
        let peers = [connect(), connect()];
        let [(spliced, peer), (encoded, other)] = peers;
        let readers = [read_all(peer), read_all(other)];
        let files = [evicted_file_of(&data), evicted_file_of(&data)];
        forbid_threads();
        let whole = 0..LEN as u64;
        let sent = bench.send(&spliced, &files[0], whole.clone(), &PATIENT);
        sent.await.unwrap();
        let plain = |plain: &[u8], out: &mut Vec<u8>| {
            out.clear();
            out.extend_from_slice(plain);
            Ok(plain.len())
        };
        let (ring, pool) = (&bench.ring, &bench.pool);
        let sent = sendfile_encoded(ring, pool, &encoded, &files[1], whole, &PATIENT, plain);
        sent.await.unwrap();
        drop((spliced, encoded));
        for reader in readers {
            assert!(joined(reader).await == data);
        }
        bench.check_rest();
    });
}
