//! Closes cached files that are unused, since a volume cannot be unmounted while one of its files
//! is open, and those that were deleted, since an open file keeps its space.
//!
//! No request notices a deleted file. So while files are open a task checks them in batches; while
//! none is open, it waits without a timer.
//!
//! A deleted file has a link count of 0, which the kernel knows without asking a disk or a file
//! server: about 1 µs for each file. File systems that only hide a deleted file while it is open
//! (NFS, FUSE) keep a link; there it is closed once it is unused.

use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::zip;
use tidegate_uring::executor::coarse_sleep;

use crate::cache::resource::Resource;
use crate::config::CacheConfig;
use crate::shared::Shared;
use crate::site::Site;

/// Files checked at a time, in 0.1 ms.
const BATCH: usize = 128;

/// The least pause between batches: 4,096 checks per second take 0.5 % of a core.
const PAUSE_MIN: Duration = Duration::from_micros(31_250);

/// The least duration of a pass over all files.
const PASS_MIN: Duration = Duration::from_millis(500);

/// Runs for as long as it is polled.
pub(crate) async fn sweep(shared: Rc<Shared>, sites: Vec<Rc<Site>>) {
    zip(files(&shared), roots(&shared, &sites)).await;
}

/// Checks the roots, and closes one whose path leads elsewhere. Apart from the files, since a disk
/// may take any time. One more check follows after the last file is closed.
async fn roots(shared: &Shared, sites: &[Rc<Site>]) {
    let pause = pass(&shared.config).max(shared.config.valid);
    loop {
        wait_for_open_file(shared).await;
        coarse_sleep(pause).await;
        for site in sites {
            site.revalidate_roots(Instant::now()).await;
        }
    }
}

async fn files(shared: &Shared) {
    let pass = pass(&shared.config);
    loop {
        wait_for_open_file(shared).await;
        if let Some(time) = Instant::now().checked_sub(shared.config.idle) {
            shared.cache.borrow_mut().close_unused(time);
        }
        let open = shared.cache.borrow().open();
        let pause = pause(pass, open.len());
        for batch in open.chunks(BATCH) {
            coarse_sleep(pause).await;
            if any_deleted(batch) {
                shared.cache.borrow_mut().close_deleted();
            }
        }
    }
}

/// The duration of a pass, unless there are too many files. A file that is deleted just after its
/// check is found within twice that time.
fn pass(config: &CacheConfig) -> Duration {
    (config.valid.min(config.idle / 2) / 2).max(PASS_MIN)
}

/// The pause before each batch of `count` files.
fn pause(pass: Duration, count: usize) -> Duration {
    let batches = u32::try_from(count.div_ceil(BATCH)).unwrap_or(u32::MAX);
    (pass / batches.max(1)).max(PAUSE_MIN)
}

/// Waits until a file is open. The cache has one waker: all callers must be of one task.
async fn wait_for_open_file(shared: &Shared) {
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

/// Checks each file that is still open.
fn any_deleted(batch: &[Weak<Resource>]) -> bool {
    let open = batch.iter().filter_map(Weak::upgrade);
    open.filter(|resource| resource.check_deleted()).count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_half_the_time_of_trust_and_no_core() {
        let config = |valid, idle| CacheConfig {
            inline_max: 0,
            popular_max: 0,
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
            let batches = u32::try_from(count.div_ceil(BATCH)).unwrap();
            assert_eq!(
                (pause * batches).as_millis(),
                expected,
                "{valid} {idle} {count}"
            );
        }
    }
}
