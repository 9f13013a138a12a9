//! Which part of an open file was in the page cache a moment ago, and so very likely still is.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a hint holds. Pages that were not read for longer may have been reclaimed, and with
/// them the extent map of the file.
const VALID: Duration = Duration::from_secs(10);

/// The part of a file that was read from the page cache lately.
#[derive(Debug, Default)]
pub struct ResidencyHint {
    part: Cell<Option<Part>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    /// Exclusive.
    end: u64,
    /// The start of the last read that covered all of it; of a joined part, of the older read.
    at: Instant,
}

impl ResidencyHint {
    /// Whether all of `range` was in the page cache shortly before `now`.
    pub fn covers(&self, range: &Range<u64>, now: Instant) -> bool {
        self.part.get().is_some_and(|part| {
            part.start <= range.start
                && range.end <= part.end
                && now.saturating_duration_since(part.at) < VALID
        })
    }

    /// A read that began `at` this time found all of `range` in the page cache.
    pub fn add(&self, range: &Range<u64>, at: Instant) {
        let new = Part {
            start: range.start,
            end: range.end,
            at,
        };
        let part = match self.part.get() {
            Some(old) if old.is_fresh(at) => old.joined_by(new),
            _ => new,
        };
        self.part.set(Some(part));
    }

    /// A read had to wait for the disk.
    pub fn forget(&self) {
        self.part.set(None);
    }
}

impl Part {
    fn is_fresh(self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < VALID
    }

    /// Both parts if they touch, else the new one.
    fn joined_by(self, new: Self) -> Self {
        let touches = new.start <= self.end && self.start <= new.end;
        if self.covers(new) {
            self
        } else if new.covers(self) || !touches {
            new
        } else {
            Self {
                start: self.start.min(new.start),
                end: self.end.max(new.end),
                at: self.at.min(new.at),
            }
        }
    }

    fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end && self.at >= other.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_file_that_was_not_read_has_no_hint() {
        assert!(!ResidencyHint::default().covers(&(0..1), Instant::now()));
    }

    #[test]
    fn a_file_that_is_read_repeatedly_keeps_its_hint() {
        let (hint, start) = (ResidencyHint::default(), Instant::now());
        for count in 0..100 {
            let now = start + count * 9 * SECOND;
            assert_eq!(hint.covers(&(0..100), now), count > 0, "{count}");
            hint.add(&(0..100), now);
        }
        hint.forget();
        assert!(!hint.covers(&(0..100), start + 892 * SECOND));
    }

    #[test]
    fn a_hint_holds_from_the_start_of_the_read() {
        let (hint, start) = (ResidencyHint::default(), Instant::now());
        hint.add(&(10..20), start);
        let cases = [
            (10..20, 0, true),
            (12..15, 9, true),
            (10..20, 10, false),
            (9..20, 0, false),
            (10..21, 0, false),
            (30..31, 0, false),
        ];
        for (range, seconds, expected) in cases {
            let found = hint.covers(&range, start + seconds * SECOND);
            assert_eq!(found, expected, "{range:?} after {seconds} s");
        }
    }

    #[test]
    fn parts_that_touch_are_one_as_old_as_the_older() {
        let start = Instant::now();
        // The second part, its seconds after the first (10..20), the result and its time.
        let cases = [
            (20..30, 3, 10..30, 0),
            (0..10, 3, 0..20, 0),
            (15..18, 3, 10..20, 0),
            (10..20, 3, 10..20, 3),
            (0..30, 3, 0..30, 3),
            (40..50, 3, 40..50, 3),
            // Too long ago for the first to matter.
            (20..30, 10, 20..30, 10),
        ];
        for (second, seconds, part, since) in cases {
            let hint = ResidencyHint::default();
            hint.add(&(10..20), start);
            hint.add(&second, start + seconds * SECOND);
            let expected = Part {
                start: part.start,
                end: part.end,
                at: start + since * SECOND,
            };
            assert_eq!(hint.part.get(), Some(expected), "{second:?} {seconds}");
        }
    }

    #[test]
    fn a_read_that_took_longer_makes_nothing_older() {
        let (hint, start) = (ResidencyHint::default(), Instant::now());
        hint.add(&(0..100), start + 5 * SECOND);
        hint.add(&(0..100), start);
        assert!(hint.covers(&(0..100), start + 14 * SECOND));
    }
}
