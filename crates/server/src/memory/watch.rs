//! The thread that reads how much memory is used.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::memory::pressure::Pressure;

/// How often while it may soon be short, or is.
const OFTEN: Duration = Duration::from_millis(100);

/// How often otherwise.
const SELDOM: Duration = Duration::from_secs(1);

/// The least time between two readings, whoever asks: one takes a tenth of a millisecond.
const LEAST: Duration = Duration::from_millis(10);

/// Reads for as long as the process runs, and calls `wake` when cores are to know.
pub(crate) fn start(pressure: Arc<Pressure>, wake: impl Fn() + Send + 'static) -> io::Result<()> {
    let read = move || {
        pressure.begin();
        loop {
            if pressure.read() {
                wake();
            }
            thread::sleep(LEAST);
            thread::park_timeout(if pressure.is_near() { OFTEN } else { SELDOM });
        }
    };
    let thread = thread::Builder::new().name("memory".to_owned());
    thread.spawn(read).map(drop)
}
