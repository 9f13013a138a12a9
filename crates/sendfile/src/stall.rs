//! The time limit for a peer that takes nothing.

use std::time::Duration;

use tidegate_uring::executor::Timer;

/// Checks within the time limit.
const CHECKS: u32 = 4;

/// The stall timer of one transfer.
///
/// A full socket does not mean an idle peer: poll reports it writable only when a third of its
/// buffer, which may be megabytes, has drained. So each quarter of the limit reads how many bytes
/// the peer has yet to acknowledge; the peer has stalled when that count did not fall in four
/// quarters.
///
/// A transfer may wait thousands of times, so its timer keeps running when a wait ends well. A
/// transfer that never waits has no timer, and one that never waits long checks nothing.
pub(crate) struct Stall {
    limit: Duration,
    /// Unacknowledged bytes at the last check, if nothing was sent since.
    seen: Option<usize>,
    /// Consecutive checks that found no fewer bytes than the check before.
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

    /// Records that the socket took bytes.
    pub(crate) fn progress(&mut self) {
        self.seen = None;
        self.vain = 0;
    }

    /// Restarts the current quarter; time since the last wait does not count.
    pub(crate) fn go_on(&mut self) {
        self.timer = None;
    }

    /// Waits until the peer has taken nothing for the limit, and at most a quarter of it longer.
    /// `unacknowledged` reads the socket's count. Dropped: the timer keeps running.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    pub(crate) fn expired(
        &mut self,
        unacknowledged: impl Fn() -> usize,
    ) -> impl Future<Output = ()> {
        async move {
            while self.vain < CHECKS {
                let quarter = self.limit / CHECKS;
                self.timer.get_or_insert_with(|| Timer::new(quarter)).await;
                self.timer = None;
                self.check(unacknowledged());
            }
        }
    }

    fn check(&mut self, unacknowledged: usize) {
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
    use tidegate_uring::executor::{Executor, coarse_sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);

    fn same() -> usize {
        1000
    }

    fn run(future: impl Future<Output = ()>) {
        Executor::new("test", 1).unwrap().run(future);
    }

    #[test]
    fn it_expires_over_several_waits() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            let start = Instant::now();
            assert!(poll_once(stall.expired(same)).await.is_none());
            coarse_sleep(LIMIT / 2).await;
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
            coarse_sleep(LIMIT).await;
            stall.progress();
            let start = Instant::now();
            stall.expired(same).await;
            assert!(start.elapsed() >= LIMIT);
        });
    }

    #[test]
    fn the_time_between_two_steps_does_not_count() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            stall.seen = Some(same());
            stall.vain = CHECKS - 1;
            assert!(poll_once(stall.expired(same)).await.is_none());
            coarse_sleep(LIMIT).await;
            stall.go_on();
            let start = Instant::now();
            stall.expired(same).await;
            assert!(start.elapsed() >= LIMIT / CHECKS);
        });
    }

    #[test]
    fn a_peer_that_takes_bytes_starts_it_anew() {
        let mut stall = Stall::new(LIMIT);
        for _ in 0..10 {
            // The first check after each progress has nothing to compare with.
            (0..CHECKS).for_each(|_| stall.check(1000));
            assert_eq!(stall.vain, CHECKS - 1);
            stall.check(999);
            assert_eq!(stall.vain, 0);
            stall.progress();
        }
        (0..=CHECKS).for_each(|_| stall.check(1000));
        assert_eq!(stall.vain, CHECKS);
    }

    #[test]
    fn it_does_not_expire_while_each_check_finds_fewer() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            let left = Cell::new(3 * CHECKS as usize);
            let fewer = || {
                left.set(left.get().saturating_sub(1));
                left.get()
            };
            let none_left = async {
                while left.get() > 0 {
                    coarse_sleep(LIMIT / CHECKS).await;
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
