//! Round-robin among transfers whose sockets are writable at once; other tasks run in between.
//!
//! One turn of the ring often finds many sockets writable. If each transfer filled its socket right
//! away, a new request would wait for all of them: a third of a millisecond with twelve readers of
//! 200 KB each.

use std::cell::Cell;
use std::rc::Rc;

use tidegate_uring::Ring;

use crate::queue::Queue;

#[derive(Default)]
pub(crate) struct FairQueue {
    /// A transfer holds the ticket.
    taken: Cell<bool>,
    /// The turn of the ring in which the last transfer went on.
    last: Cell<u64>,
    waiting: Queue<Ticket>,
}

/// The right to go on next. Dropped: passes to the transfer that waited longest.
struct Ticket(Rc<FairQueue>);

impl FairQueue {
    /// Ready once no other transfer went on in the current turn of the ring.
    ///
    /// Dropped: leaves the queue.
    pub(crate) async fn next(self: &Rc<Self>, ring: &Ring) {
        let ticket = if self.taken.replace(true) {
            self.waiting.wait(false).await
        } else {
            Ticket(Rc::clone(self))
        };
        if self.last.get() == ring.turns() {
            ring.yield_now().await;
        }
        self.last.set(ring.turns());
        drop(ticket);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.waiting.is_empty() {
            self.0.taken.set(false);
        } else {
            self.0.waiting.give(Self(Rc::clone(&self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_lite::future::poll_once;
    use tidegate_uring::Config;
    use tidegate_uring::executor::Executor;

    use super::*;

    fn run(test: impl AsyncFnOnce(Ring, Rc<FairQueue>)) {
        Executor::new("test", 1).unwrap().run(async {
            let ring = Ring::start(&Config::default()).unwrap();
            test(ring, Rc::default()).await;
        });
    }

    #[test]
    fn the_ring_takes_a_turn_between_two_transfers() {
        run(async |ring, queue| {
            let had = Rc::new(RefCell::new(Vec::new()));
            let transfers: Vec<_> = (0..5)
                .map(|_| {
                    let (ring, queue, had) = (ring.clone(), Rc::clone(&queue), Rc::clone(&had));
                    tidegate_uring::spawn(async move {
                        queue.next(&ring).await;
                        had.borrow_mut().push(ring.turns());
                    })
                })
                .collect();
            for transfer in transfers {
                transfer.await;
            }
            assert!(had.borrow().is_sorted_by(|one, next| one < next), "{had:?}");
        });
    }

    #[test]
    fn a_dropped_waiter_delays_nobody() {
        run(async |ring, queue| {
            queue.next(&ring).await;
            let mut first = Box::pin(queue.next(&ring));
            let mut second = Box::pin(queue.next(&ring));
            let mut third = Box::pin(queue.next(&ring));
            assert!(poll_once(&mut first).await.is_none(), "none since the last");
            assert!(poll_once(&mut second).await.is_none());
            assert!(poll_once(&mut third).await.is_none());
            drop(second);
            // With the right to be the next in its hands.
            drop(first);
            third.await;
            assert!(!queue.taken.get());
        });
    }
}
