//! Signals that stop the work of a command.
//!
//! The first INT, TERM or HUP stops it cleanly, a second one ends the process. A signal that is
//! ignored at the start stays ignored, as nohup needs it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals that stop the work.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Lists the signals that this process ignores (`SigIgn`, proc(5)).
const STATUS: &str = "/proc/self/status";

/// A flag that the first signal sets.
pub(crate) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals(&fs::read_to_string(STATUS).unwrap_or_default());
    let heeded = SIGNALS
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    for signal in heeded {
        // In this order: the first signal finds the flag clear and only sets it.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stopping))?;
        signal_hook::flag::register(signal, Arc::clone(&stopping))?;
    }
    Ok(stopping)
}

/// The mask of ignored signals in `status`, signal 1 as the lowest bit; 0 if it has none.
fn ignored_signals(status: &str) -> u64 {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored_signals(status), 0x1001);
        assert_eq!(ignored_signals(""), 0);
        assert_eq!(ignored_signals("SigIgn:\tx"), 0);
    }
}
