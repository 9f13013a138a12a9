//! Transfers and readers over a simulated kernel: each op fails with each error, or moves less than it
//! could.

#[path = "support/simulation.rs"]
mod simulation;
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::ops::Range;

use futures_lite::future::poll_once;
use rustix::io::Errno;
use simulation::plan::ERRORS;
use simulation::{BEHIND, LEN, Peer, Stage, UNREAD};
use support::{Bench, run};
use tidegate_sendfile::{ErrorKind, FileReader, Options};
use tidegate_uring::simulation::{Fate, Kind};

/// Whether a transfer that fails with `kind` says what op `met` the error.
fn tells(kind: &ErrorKind, met: Kind, errno: Errno) -> bool {
    let error = match kind {
        ErrorKind::File(error) if matches!(met, Kind::Splice | Kind::Read) => Some(error),
        ErrorKind::Socket(error) if met == Kind::Poll => Some(error),
        ErrorKind::Pipe(error) if met == Kind::Pipe => Some(error),
        _ => None,
    };
    error.and_then(Errno::from_io_error) == Some(errno)
}

/// Whether an op is carried out by a thread, where it fails so.
fn is_repeated(met: Kind, errno: Errno) -> bool {
    matches!(met, Kind::Splice | Kind::Read) && matches!(errno, Errno::CANCELED | Errno::INTR)
}

/// How often each op met an error, and how often it was survived.
type Survived = BTreeMap<Kind, [u32; 2]>;

/// For the op of each number in turn: what happens if it has `fate`? Ends when there is no such op.
async fn each_op(stage: &Stage, options: &Options, fate: Fate, survived: &mut Survived) {
    for number in 0.. {
        stage.begin();
        stage.plan.fault.set(Some((number, fate)));
        let mut peer = Peer::new();
        let mut transfer = stage.transfer(options);
        let result = stage.carry(&mut transfer, &mut peer, |_| false).await;
        let result = result.expect("nothing dropped it");
        let sent = transfer.sent() as usize;
        drop(transfer);
        let met = stage.plan.met.get();
        let what = format!("op {number} ({met:?}): {fate:?}: {result:?}");
        let received = peer.end();
        assert_eq!(received.len(), sent, "{what}");
        assert!(received == stage.data[..sent], "{what}: wrong bytes");
        if let Some(met) = met {
            let counts = survived.entry(met).or_default();
            counts[0] += 1;
            counts[1] += u32::from(result.is_ok());
        }
        match (&result, fate) {
            (Ok(()), _) => assert_eq!(sent, LEN, "{what}"),
            (Err(error), Fate::Failed(errno)) => {
                let met = met.expect("an error, and none was made");
                let errno = Errno::from_raw_os_error(errno);
                assert!(tells(&error.kind, met, errno), "{what}");
                assert!(!is_repeated(met, errno), "{what}");
            }
            (Err(_), _) => panic!("{what}"),
        }
        stage.check_rest(&what).await;
        if met.is_none() {
            return;
        }
    }
}

#[test]
fn an_op_that_fails_ends_in_an_error_that_says_so_or_is_survived() {
    run(async {
        let stage = Stage::new().await;
        let mut survived = Survived::new();
        for options in [UNREAD, BEHIND] {
            for errno in ERRORS {
                let fate = Fate::Failed(errno.raw_os_error());
                each_op(&stage, &options, fate, &mut survived).await;
            }
        }
        println!("{survived:?}");
        let [met, lived] = survived[&Kind::Advise];
        assert_eq!(met, lived, "an advice that is not taken harms nobody");
        for kind in [Kind::Splice, Kind::Poll] {
            let [met, lived] = survived[&kind];
            assert!(lived < met, "{kind:?}: {survived:?}");
        }
    });
}

#[test]
fn ops_that_move_less_than_they_could_lose_nothing() {
    run(async {
        let stage = Stage::new().await;
        let mut survived = Survived::new();
        for len in [1, 4095, 4096, 10_000] {
            each_op(&stage, &UNREAD, Fate::Short(len), &mut survived).await;
        }
        let [met, lived] = survived[&Kind::Splice];
        assert!(met > 0 && met == lived, "{survived:?}");
    });
}

/// Reads all of the file, by pieces.
async fn read_all(stage: &Stage, received: &RefCell<Vec<u8>>) -> Result<(), ErrorKind> {
    let Bench { ring, pool } = &stage.bench;
    let range: Range<u64> = 0..LEN as u64;
    let mut reader = FileReader::new(ring, pool, &stage.file, range, &UNREAD);
    while reader.remaining() > 0 {
        let mut piece = vec![0; (reader.remaining() as usize).min(16_384)];
        match reader.read_now(&mut [IoSliceMut::new(&mut piece)])? {
            Some(count) => received.borrow_mut().extend_from_slice(&piece[..count]),
            None => reader.fetch().await?,
        }
    }
    reader.finish();
    Ok(())
}

/// Reads the file while the op of `number` has `fate`. False if there is no such op.
async fn read_with(stage: &Stage, number: u64, fate: Fate, survived: &mut Survived) -> bool {
    stage.begin();
    stage.plan.fault.set(Some((number, fate)));
    let received = RefCell::new(Vec::new());
    let mut reading = Box::pin(read_all(stage, &received));
    let mut turn = 0;
    let result = loop {
        if let Some(result) = poll_once(&mut reading).await {
            break result;
        }
        stage.turn(turn).await;
        turn += 1;
    };
    drop(reading);
    let received = received.into_inner();
    let met = stage.plan.met.get();
    let what = format!("op {number} ({met:?}): {fate:?}: {result:?}");
    assert!(received == stage.data[..received.len()], "{what}");
    match (&result, fate) {
        (Ok(()), _) => assert_eq!(received.len(), LEN, "{what}"),
        (Err(kind), Fate::Failed(errno)) => {
            let met = met.expect("an error, and none was made");
            let errno = Errno::from_raw_os_error(errno);
            assert!(
                tells(kind, met, errno) && !is_repeated(met, errno),
                "{what}"
            );
        }
        (Err(_), _) => panic!("{what}"),
    }
    if let Some(met) = met {
        let counts = survived.entry(met).or_default();
        counts[0] += 1;
        counts[1] += u32::from(result.is_ok());
    }
    stage.check_rest(&what).await;
    met.is_some()
}

#[test]
fn a_reader_gets_the_bytes_or_the_error_whatever_an_op_does() {
    run(async {
        let stage = Stage::new().await;
        let failures = ERRORS.map(|errno| Fate::Failed(errno.raw_os_error()));
        let mut survived = Survived::new();
        for fate in failures.into_iter().chain([1, 5000].map(Fate::Short)) {
            let mut number = 0;
            while read_with(&stage, number, fate, &mut survived).await {
                number += 1;
            }
        }
        println!("{survived:?}");
        let [met, lived] = survived[&Kind::Advise];
        assert_eq!(met, lived, "an advice that is not taken harms nobody");
    });
}
