//! Futures that other threads wake.

mod support;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;
use futures_util::task::AtomicWaker;
use support::{conversation, ring, run, settle};
use tidegate_uring::woken_by_others;

/// Counts up on a thread of its own, once for each request.
struct Counter {
    count: Arc<(AtomicUsize, AtomicWaker)>,
    more: Sender<Duration>,
}

impl Counter {
    fn start() -> Self {
        let count = Arc::new((AtomicUsize::new(0), AtomicWaker::new()));
        let (more, requests): (_, Receiver<Duration>) = channel();
        let counted = Arc::clone(&count);
        thread::spawn(move || {
            for pause in requests {
                thread::sleep(pause);
                counted.0.fetch_add(1, Ordering::SeqCst);
                counted.1.wake();
            }
        });
        Self { count, more }
    }

    /// Has it count to `count` after `pause`, and waits for that.
    async fn reach(&self, count: usize, pause: Duration) {
        self.more.send(pause).unwrap();
        woken_by_others(self.reached(count)).await;
    }

    fn reached(&self, count: usize) -> impl Future<Output = ()> {
        let at = Arc::clone(&self.count);
        poll_fn(move |context| {
            at.1.register(context.waker());
            if at.0.load(Ordering::SeqCst) >= count {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }
}

#[test]
fn a_wake_up_comes_at_once_beside_a_conversation() {
    run(async {
        let ring = ring();
        let listens = conversation(&ring);
        // By the executor's own means each would be some 100 ms late. On a busy machine one of a
        // few tries is undisturbed.
        let is_soon = async || {
            let start = Instant::now();
            let waits = async {
                let counter = Counter::start();
                for count in 1..=10 {
                    counter.reach(count, Duration::from_millis(3)).await;
                }
            };
            ring.spawn(waits).await;
            start.elapsed() < Duration::from_millis(80)
        };
        let mut tries = 0;
        while !is_soon().await {
            tries += 1;
            assert!(tries < 10, "they come late");
        }
        listens.cancel().await;
    });
}

#[test]
fn no_wake_up_is_lost_whichever_thread_it_comes_from() {
    run(async {
        let ring = ring();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                ring.spawn(async {
                    let counter = Counter::start();
                    for count in 1..=2000 {
                        counter.reach(count, Duration::ZERO).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn the_executor_s_own_thread_wakes_as_well() {
    run(async {
        let ring = ring();
        let count = Arc::new((AtomicUsize::new(0), AtomicWaker::new()));
        let (more, _) = channel();
        let counter = Counter { count, more };
        let count = Arc::clone(&counter.count);
        let task = ring.spawn(async move { woken_by_others(counter.reached(1)).await });
        settle(&ring).await;
        count.0.store(1, Ordering::SeqCst);
        count.1.wake();
        task.await;
    });
}

#[test]
fn wake_ups_of_dropped_futures_and_ended_rings_harm_nobody() {
    let counter = Counter::start();
    run(async {
        let ring = ring();
        for count in 1..=100 {
            let mut waits = Box::pin(woken_by_others(counter.reached(count)));
            assert!(poll_once(waits.as_mut()).await.is_none());
            counter.more.send(Duration::ZERO).unwrap();
            drop(waits);
        }
        counter.reach(101, Duration::ZERO).await;
        let mut waits = pin!(woken_by_others(counter.reached(102)));
        assert!(poll_once(waits.as_mut()).await.is_none());
        drop(ring);
    });
    // The waker of the last one is still registered.
    counter.count.1.wake();
}

#[test]
fn without_a_ring_a_future_is_awaited_as_it_is() {
    let counter = Counter::start();
    futures_lite::future::block_on(counter.reach(1, Duration::ZERO));
}
