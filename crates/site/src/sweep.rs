//! Closes cached files that hold what somebody wants back: those that nobody asks for, since a volume
//! cannot be unmounted while one of its files is open, and those that were deleted, since their space
//! is not free before.
//!
//! Requests see to neither: nobody asks for a file that is gone. So while files are open a task looks
//! at them, a piece at a time; while none is, it waits without a timer.
//!
//! A deleted file is known by its number of names, which the kernel tells of an open file without
//! asking a disk or a server of files: about 1 µs each. File systems that only hide a deleted file while it
//! is open (NFS, FUSE) leave it a name; there it is closed once nobody asks for it.

use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::zip;
use glommio::timer::sleep;

use crate::cache::resource::Resource;
use crate::config::CacheConfig;
use crate::shared::Shared;
use crate::site::Site;

/// Files looked at in one go: 0.1 ms.
const PIECE: usize = 128;

/// At least so long from one piece to the next: 4,096 looks in a second, 0.5 % of a core.
const PAUSE_MIN: Duration = Duration::from_micros(31_250);

/// At least so long for all files.
const PASS_MIN: Duration = Duration::from_millis(500);

/// Sweeps for as long as it is polled.
pub(crate) async fn sweep(shared: Rc<Shared>, sites: Vec<Rc<Site>>) {
    zip(files(&shared), roots(&shared, &sites)).await;
}

/// Looks at the roots, so that one whose path leads elsewhere is let go. Apart from the files: a look
/// at a disk may take any time. They are looked at once more after the last file was closed.
async fn roots(shared: &Shared, sites: &[Rc<Site>]) {
    let pause = pass(&shared.config).max(shared.config.valid);
    loop {
        until_open(shared).await;
        sleep(pause).await;
        for site in sites {
            site.revalidate_roots(Instant::now()).await;
        }
    }
}

async fn files(shared: &Shared) {
    let pass = pass(&shared.config);
    loop {
        until_open(shared).await;
        if let Some(time) = Instant::now().checked_sub(shared.config.idle) {
            shared.cache.borrow_mut().close_unused(time);
        }
        let open = shared.cache.borrow().open();
        let pause = pause(pass, open.len());
        for piece in open.chunks(PIECE) {
            sleep(pause).await;
            if any_deleted(piece) {
                shared.cache.borrow_mut().close_deleted();
            }
        }
    }
}

/// How long all files are looked at once, if they are not too many. One that is deleted just after it
/// was looked at is found by the end of the next pass, within twice that time.
fn pass(config: &CacheConfig) -> Duration {
    (config.valid.min(config.idle / 2) / 2).max(PASS_MIN)
}

/// How long to wait before each piece of `count` files.
fn pause(pass: Duration, count: usize) -> Duration {
    let pieces = u32::try_from(count.div_ceil(PIECE)).unwrap_or(u32::MAX);
    (pass / pieces.max(1)).max(PAUSE_MIN)
}

/// Waits until a file is open. Only for futures of one task: it has one waker.
async fn until_open(shared: &Shared) {
    poll_fn(|context| {
        let mut cache = shared.cache.borrow_mut();
        if cache.has_open() {
            Poll::Ready(())
        } else {
            cache.wake_when_open(context.waker());
            Poll::Pending
        }
    })
    .await;
}

/// Looks at each; those that are closed already are not.
fn any_deleted(piece: &[Weak<Resource>]) -> bool {
    let open = piece.iter().filter_map(Weak::upgrade);
    open.filter(|resource| resource.check_deleted()).count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_half_the_time_of_trust_and_no_core() {
        let config = |valid, idle| CacheConfig {
            inline_max: 0,
            hot_bytes: 0,
            open_files: 0,
            valid: Duration::from_millis(valid),
            idle: Duration::from_millis(idle),
            stale: Duration::ZERO,
            lookup: Duration::from_secs(1),
            workers: 1,
        };
        // valid, idle and open files; how long a pass takes, all in milliseconds.
        let cases = [
            (1_000, 60_000, 1, 500),
            (1_000, 60_000, 128, 500),
            (1_000, 60_000, 1_000, 500),
            (1_000, 60_000, 2_048, 500),
            (1_000, 60_000, 8_192, 2_000),
            (1_000, 60_000, 1 << 20, 256_000),
            (0, 60_000, 1, 500),
            (10_000, 60_000, 8_192, 5_000),
            (86_400_000, 60_000, 1, 15_000),
            (86_400_000, 1_000, 1, 500),
        ];
        for (valid, idle, count, expected) in cases {
            let pause = pause(pass(&config(valid, idle)), count);
            let pieces = u32::try_from(count.div_ceil(PIECE)).unwrap();
            assert_eq!(
                (pause * pieces).as_millis(),
                expected,
                "{valid} {idle} {count}"
            );
        }
    }
}
