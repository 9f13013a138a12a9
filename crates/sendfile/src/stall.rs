//! The time a peer has for taking a byte.

use std::time::Duration;

use glommio::timer::Timer;

/// How often it is looked, in the time of a stall, whether the peer takes bytes.
const LOOKS: u32 = 4;

/// Watches over the waits of one transfer.
///
/// That a socket is full does not mean that its peer stands still: the socket is told to be
/// writable only when a third of its buffer, which may be megabytes, has drained. So at every
/// quarter of the limit it is looked how many bytes the peer has yet to acknowledge, and the peer
/// has stalled when that did not fall for four quarters.
///
/// A transfer may wait thousands of times, so its timer is left running when a wait ends well. A
/// transfer that never waits has no timer, and one that never waits for long looks at nothing.
pub(crate) struct Stall {
    limit: Duration,
    /// Bytes not acknowledged as of the last look, if nothing was sent since.
    seen: Option<usize>,
    /// How many looks in a row found no fewer than the one before.
    vain: u32,
    timer: Option<Timer>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            seen: None,
            vain: 0,
            timer: None,
        }
    }

    /// The socket took bytes.
    pub(crate) fn progress(&mut self) {
        self.seen = None;
        self.vain = 0;
    }

    /// Waits until the peer has taken nothing for the limit, and at most a quarter of it longer.
    /// `unacknowledged` looks at the socket. Dropped: the time goes on counting.
    pub(crate) async fn expired(&mut self, unacknowledged: impl Fn() -> usize) {
        while self.vain < LOOKS {
            let quarter = self.limit / LOOKS;
            self.timer.get_or_insert_with(|| Timer::new(quarter)).await;
            self.timer = None;
            self.look(unacknowledged());
        }
    }

    fn look(&mut self, unacknowledged: usize) {
        match self.seen.replace(unacknowledged) {
            Some(before) if unacknowledged >= before => self.vain += 1,
            _ => self.vain = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use futures_lite::future::{or, poll_once};
    use glommio::timer::sleep;
    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);

    fn same() -> usize {
        1000
    }

    fn run(future: impl Future<Output = ()>) {
        LocalExecutorBuilder::new(Placement::Unbound)
            .make()
            .unwrap()
            .run(future);
    }

    #[test]
    fn it_expires_over_several_waits() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            let start = Instant::now();
            assert!(poll_once(stall.expired(same)).await.is_none());
            sleep(LIMIT / 2).await;
            stall.expired(same).await;
            assert!(start.elapsed() >= LIMIT);
            assert!(poll_once(stall.expired(same)).await.is_some());
        });
    }

    #[test]
    fn progress_starts_it_anew() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            assert!(poll_once(stall.expired(same)).await.is_none());
            sleep(LIMIT).await;
            stall.progress();
            let start = Instant::now();
            stall.expired(same).await;
            assert!(start.elapsed() >= LIMIT);
        });
    }

    #[test]
    fn a_peer_that_takes_bytes_starts_it_anew() {
        let mut stall = Stall::new(LIMIT);
        for _ in 0..10 {
            // The first look after each progress has nothing to compare with.
            (0..LOOKS).for_each(|_| stall.look(1000));
            assert_eq!(stall.vain, LOOKS - 1);
            stall.look(999);
            assert_eq!(stall.vain, 0);
            stall.progress();
        }
        (0..=LOOKS).for_each(|_| stall.look(1000));
        assert_eq!(stall.vain, LOOKS);
    }

    #[test]
    fn it_does_not_expire_while_each_look_finds_fewer() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            let left = Cell::new(3 * LOOKS as usize);
            let fewer = || {
                left.set(left.get().saturating_sub(1));
                left.get()
            };
            let none_left = async {
                while left.get() > 0 {
                    sleep(LIMIT / LOOKS).await;
                }
                true
            };
            let expired = async {
                stall.expired(fewer).await;
                false
            };
            assert!(or(none_left, expired).await);
            stall.expired(fewer).await;
        });
    }
}
