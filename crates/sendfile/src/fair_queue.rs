//! Transfers that could all go on at once take turns, and other tasks run between them.
//!
//! Many sockets are often found writable by the same turn of the ring. Were each transfer to fill
//! its own right away, a request that came just then would wait for all of them: with twelve
//! readers of 200 KB each that is a third of a millisecond.

use std::cell::Cell;
use std::rc::Rc;

use tidegate_uring::Ring;

use crate::queue::Queue;

#[derive(Default)]
pub(crate) struct FairQueue {
    /// Somebody is about to take a turn.
    taken: Cell<bool>,
    /// The ring's turn in which the last transfer had its own.
    last: Cell<u64>,
    waiting: Queue<Ticket>,
}

/// The right to be the next. Dropped: it goes to whoever waits for longest.
struct Ticket(Rc<FairQueue>);

impl FairQueue {
    /// Ready when no other transfer had a turn since the ring last took one.
    ///
    /// Dropped: the place in line is given up.
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
    use glommio::{LocalExecutorBuilder, Placement};
    use tidegate_uring::Config;

    use super::*;

    fn run(test: impl AsyncFnOnce(Ring, Rc<FairQueue>)) {
        LocalExecutorBuilder::new(Placement::Unbound)
            .make()
            .unwrap()
            .run(async {
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
                    glommio::spawn_local(async move {
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
    fn one_that_leaves_the_line_holds_up_nobody() {
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
