//! Transfers over a simulated kernel, dropped at each op. Descriptors are counted for the whole process,
//! so this binary holds one test.

#[path = "support/simulation.rs"]
mod simulation;
mod support;

use std::cell::Cell;
use std::rc::Rc;

use simulation::{BEHIND, Peer, Stage};
use support::{descriptors, run};

/// Drops a transfer when `completed` ops are complete: before it notices, or when it waits for the
/// next. False if it ended before.
async fn drop_after(stage: &Stage, completed: u64, is_noticed: bool) -> bool {
    stage.begin();
    stage.plan.most.set(Some(completed));
    let mut peer = Peer::new();
    let mut transfer = stage.transfer(&BEHIND);
    let plan = Rc::clone(&stage.plan);
    let stopped = Cell::new(0);
    let dropped = stage.carry(&mut transfer, &mut peer, |turn| {
        let is_complete = plan.completed.get() == completed;
        if is_complete && stopped.get() == 0 {
            stopped.set(turn);
        }
        // It is polled once between two turns, and has taken what it can by then.
        is_complete && (!is_noticed || turn > stopped.get() + 200)
    });
    let is_dropped = dropped.await.is_none();
    let sent = transfer.sent() as usize;
    drop(transfer);
    let what = format!("dropped after {completed} ops, noticed: {is_noticed}");
    // The kernel may complete or cancel what is left.
    stage.check_rest(&what).await;
    let received = peer.end();
    assert_eq!(received.len(), sent, "{what}");
    assert!(received == stage.data[..sent], "{what}: wrong bytes");
    is_dropped
}

#[test]
fn a_transfer_may_be_dropped_at_each_op_before_and_after_it_takes_effect() {
    run(async {
        let stage = Stage::new().await;
        // What is opened on the first use is open from here on.
        stage.begin();
        stage.check_rest("at first").await;
        let before = descriptors();
        let mut drops = 0;
        for is_late in [false, true] {
            stage.plan.is_late.set(is_late);
            for is_noticed in [false, true] {
                let mut completed = 0;
                while drop_after(&stage, completed, is_noticed).await {
                    completed += 1;
                    drops += 1;
                }
            }
        }
        println!("dropped {drops} times");
        assert!(drops >= 12, "{drops}");
        assert_eq!(descriptors(), before);
    });
}
