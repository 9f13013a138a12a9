//! Out of descriptors. Alone in its file, since the limit is the process's.

mod support;

use std::fs::File;

use futures_lite::future::zip;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    Bench, PATIENT, connect, connect_narrow, file_of, joined, pattern, poll_until, pool_of,
    read_all, run,
};
use tidegate_sendfile::ErrorKind;

const LEN: usize = 2_000_001;

/// Opens files until no descriptor is left.
fn use_up_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn lower_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(300);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn out_of_descriptors_transfers_share_the_pipes_there_are() {
    lower_limit();
    run(async {
        let bench = Bench::with(pool_of(8)).await;
        let data = pattern(LEN);
        let file = file_of(&data);
        let connections: Vec<_> = (0..4).map(|_| connect_narrow()).collect();
        let (last, _last_peer) = connect();
        let mut used_up = use_up_descriptors();
        let transfers: Vec<_> = connections
            .into_iter()
            .map(|(socket, peer)| {
                let (bench, file, data) = (bench.clone(), file.clone(), data.clone());
                let reader = read_all(peer);
                tidegate_uring::spawn(async move {
                    bench
                        .send(&socket, &file, 0..LEN as u64, &PATIENT)
                        .await
                        .unwrap();
                    drop(socket);
                    assert!(joined(reader).await == data);
                })
            })
            .collect();
        for transfer in transfers {
            transfer.await;
        }
        bench.check_rest();

        // Without any pipe each transfer fails.
        let (idle, idle_peer) = connect_once_more(&mut used_up);
        while bench.pool.stats().pipes > 0 {
            let mut send = Box::pin(bench.send(&idle, &file, 0..LEN as u64, &PATIENT));
            assert!(poll_until(&mut send, || bench.pool.stats().parked > 0).await);
            drop(send);
        }
        used_up.extend(use_up_descriptors());
        let send = || bench.send(&last, &file, 0..LEN as u64, &PATIENT);
        let (one, other) = zip(send(), send()).await;
        for error in [one.unwrap_err(), other.unwrap_err()] {
            assert!(matches!(error.kind, ErrorKind::Pipe(_)), "{error}");
        }
        drop((used_up, idle_peer));
        bench.check_exact().await;
    });
}

/// Frees as many descriptors as a connection takes.
fn connect_once_more(used_up: &mut Vec<File>) -> (tidegate_uring::Fd, std::net::TcpStream) {
    used_up.truncate(used_up.len() - 3);
    connect_narrow()
}
