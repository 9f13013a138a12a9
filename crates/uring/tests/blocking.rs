//! Work on the executor's blocking thread, which outlives a panic.

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use futures_lite::future::or;
use support::{poll_once, until};
use tidegate_uring::run_blocking;

/// Runs `test`; fails if it hangs, as it does where the thread is gone.
fn run(test: impl Future<Output = ()>) {
    support::run(or(test, async {
        glommio::timer::sleep(Duration::from_mins(1)).await;
        panic!("the blocking thread does not answer");
    }));
}

#[test]
fn a_panic_is_an_error_of_its_caller_alone() {
    run(async {
        for round in 0..3 {
            let work = || -> u8 { panic!("on purpose") };
            let failed = run_blocking(work).await.unwrap_err();
            assert!(failed.to_string().contains("panicked"), "{failed}");
            assert_eq!(run_blocking(move || round).await.unwrap(), round);
        }
    });
}

#[test]
fn work_of_a_dropped_future_leaks_nothing() {
    run(async {
        let watched = Arc::new(());
        let output = Arc::clone(&watched);
        let (go, gone) = channel::<()>();
        let mut work = Box::pin(run_blocking(move || {
            gone.recv().unwrap();
            output
        }));
        assert!(poll_once(&mut work).await.is_none());
        drop(work);
        go.send(()).unwrap();
        let left = || Arc::strong_count(&watched) == 1;
        until("its output is dropped", left).await;
    });
}
