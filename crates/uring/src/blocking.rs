//! Blocking work, on the executor's own thread for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::attention::Attention;
use crate::poll_on_wake::PollOnWake;

/// Runs `work` on the blocking thread of the executor that runs the caller, and yields its output.
///
/// A panic of `work` would end glommio's thread, and every later caller would wait for ever. Here
/// it is an error of this caller, and the thread goes on.
///
/// Dropped: work that has started runs to its end, and its output is dropped.
///
/// # Errors
///
/// Where `work` panicked. The panic hook has printed the panic itself.
///
/// # Panics
///
/// Outside a glommio executor.
pub async fn run_blocking<T>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
{
    // Not through glommio's own output, which leaks when the future is dropped.
    let output = Arc::new(Mutex::new(None));
    let place = Arc::clone(&output);
    let _attention = Attention::new();
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    let worked = glommio::executor().spawn_blocking(move || {
        let worked = catch_panic(work);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(worked);
    });
    PollOnWake::new(worked).await;
    let output = output.lock().unwrap_or_else(PoisonError::into_inner).take();
    output.unwrap_or_else(|| Err(panicked()))
}

/// Runs `work` and turns its panic into an error, so that its thread goes on.
///
/// # Errors
///
/// Where `work` panicked. The panic hook has printed the panic itself.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    // Unwind safe: state that the work left half done belongs to it, and is dropped with it.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| panicked())
}

fn panicked() -> io::Error {
    io::Error::other("the work panicked")
}
