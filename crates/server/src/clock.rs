//! The date of responses, for one core.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use tidegate_http::HttpDate;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// The formatted date, renewed once a second.
pub(crate) struct Clock {
    formatted: Cell<(Instant, HttpDate)>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            formatted: Cell::new(format()),
        }
    }

    /// The date at `now`, at most a second old.
    #[inline]
    pub(crate) fn date(&self, now: Instant) -> HttpDate {
        let (until, date) = self.formatted.get();
        if now < until {
            return date;
        }
        self.formatted.set(format());
        self.formatted.get().1
    }
}

/// The current date, and the start of the next second.
fn format() -> (Instant, HttpDate) {
    let date = SystemTime::now();
    let past = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let left = Duration::from_nanos(u64::from(NANOS_PER_SECOND - past));
    (Instant::now() + left, HttpDate::new(date))
}
