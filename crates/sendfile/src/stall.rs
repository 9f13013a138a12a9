//! The time a peer has for taking a byte.

use std::time::{Duration, Instant};

use glommio::timer::Timer;

/// Watches over the waits of one transfer.
///
/// A transfer may wait thousands of times, so its timer is left running when a wait ends well:
/// when it fires, it is looked up since when nothing has moved, and armed again for the rest.
/// A transfer that never waits has no timer and never asks what time it is.
pub(crate) struct Stall {
    limit: Duration,
    /// When the socket was first found full since it last took a byte.
    since: Option<Instant>,
    /// Never set later than the limit demands.
    timer: Option<Timer>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            timer: None,
        }
    }

    /// The socket took bytes.
    pub(crate) fn progress(&mut self) {
        self.since = None;
    }

    /// Waits until nothing has moved for the limit, from the first such wait after progress.
    /// Dropped: the time goes on counting.
    pub(crate) async fn expired(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        loop {
            let left = self.limit.saturating_sub(since.elapsed());
            if left.is_zero() {
                return;
            }
            self.timer.get_or_insert_with(|| Timer::new(left)).await;
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::poll_once;
    use glommio::timer::sleep;
    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);

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
            assert!(poll_once(stall.expired()).await.is_none());
            sleep(LIMIT / 2).await;
            stall.expired().await;
            assert!(start.elapsed() >= LIMIT);
            assert!(poll_once(stall.expired()).await.is_some());
        });
    }

    #[test]
    fn progress_starts_it_anew() {
        run(async {
            let mut stall = Stall::new(LIMIT);
            assert!(poll_once(stall.expired()).await.is_none());
            sleep(LIMIT).await;
            stall.progress();
            let start = Instant::now();
            stall.expired().await;
            assert!(start.elapsed() >= LIMIT);
        });
    }
}
