//! Work that blocks, on the executor's own thread for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::poll_on_wake::PollOnWake;

/// Runs `work` on the blocking thread of the executor that runs the caller, and yields its output.
///
/// A panic of `work` would end glommio's thread, and everybody who waits for that would wait for
/// ever; here it is an error of this one caller, and the thread goes on.
///
/// Dropped: work that was begun goes on to its end, and its output is dropped.
///
/// # Errors
///
/// Where `work` panicked. The panic itself was told by the panic hook.
///
/// # Panics
///
/// Outside a glommio executor.
pub async fn run_blocking<T>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
{
    // Not as glommio's own output, which is leaked where nobody waits for it any more.
    let output = Arc::new(Mutex::new(None));
    let place = Arc::clone(&output);
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    let worked = glommio::executor().spawn_blocking(move || {
        let worked = catch_panic(work);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(worked);
    });
    PollOnWake::new(worked).await;
    let output = output.lock().unwrap_or_else(PoisonError::into_inner).take();
    output.unwrap_or_else(|| Err(panicked()))
}

/// The output of `work`, which others on the same thread outlive.
///
/// # Errors
///
/// Where `work` panicked. The panic itself was told by the panic hook.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    // Whatever the work had half done belongs to it, and is dropped with it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| panicked())
}

fn panicked() -> io::Error {
    io::Error::other("the work panicked")
}
