//! The thread of a store: finds what is on disk, then evicts down to the low mark.

use std::sync::atomic::Ordering;

use super::shared::Shared;

/// Returns when the store is closed. `before_directory` is called before each directory is read.
pub(super) fn run(shared: &Shared, before_directory: impl Fn(u8)) {
    for directory in 0..=u8::MAX {
        before_directory(directory);
        if shared.is_stopped() {
            return;
        }
        scan(shared, directory);
    }
    shared.indexed.store(true, Ordering::Release);
    while shared.wait_for_eviction() {
        shared.evict(shared.low_mark());
    }
}

fn scan(shared: &Shared, directory: u8) {
    match shared.files.list(directory) {
        Ok(blobs) => {
            for found in blobs {
                if shared.is_stopped() {
                    return;
                }
                shared.find(found.name);
            }
        }
        Err(error) => tracing::warn!(
            "cannot read {}/{directory:02x}: {error}; its blobs are not found",
            shared.files.path().display()
        ),
    }
}
