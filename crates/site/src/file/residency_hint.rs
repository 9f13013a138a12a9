//! What of an open file was in memory a moment ago, and so very likely still is.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long that is. What nobody read for longer the system may have dropped, and with it what says where it is
/// on the disk.
const MOMENT: Duration = Duration::from_secs(10);

/// The part of a file that was read lately.
#[derive(Debug, Default)]
pub struct ResidencyHint {
    part: Cell<Option<Part>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    /// Exclusive.
    end: u64,
    /// When the last read of it began that read all of it; of a part that several reads make up, the first.
    at: Instant,
}

impl ResidencyHint {
    /// Whether all of `range` was in memory a moment before `now`.
    pub fn covers(&self, range: &Range<u64>, now: Instant) -> bool {
        self.part.get().is_some_and(|part| {
            part.start <= range.start
                && range.end <= part.end
                && now.saturating_duration_since(part.at) < MOMENT
        })
    }

    /// All of `range` was found in memory by a read that began `at` this time.
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

    /// A part was not in memory.
    pub fn forget(&self) {
        self.part.set(None);
    }
}

impl Part {
    fn is_fresh(self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < MOMENT
    }

    /// One part: both where they touch, else the new one.
    fn joined_by(self, new: Self) -> Self {
        let touches = new.start <= self.end && self.start <= new.end;
        if self.says_all_of(new) {
            self
        } else if new.says_all_of(self) || !touches {
            new
        } else {
            Self {
                start: self.start.min(new.start),
                end: self.end.max(new.end),
                at: self.at.min(new.at),
            }
        }
    }

    fn says_all_of(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end && self.at >= other.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_known_of_a_file_that_nobody_read() {
        assert!(!ResidencyHint::default().covers(&(0..1), Instant::now()));
    }

    #[test]
    fn a_file_that_is_read_again_and_again_stays_known() {
        let (recent, start) = (ResidencyHint::default(), Instant::now());
        for count in 0..100 {
            let now = start + count * 9 * SECOND;
            assert_eq!(recent.covers(&(0..100), now), count > 0, "{count}");
            recent.add(&(0..100), now);
        }
        recent.forget();
        assert!(!recent.covers(&(0..100), start + 892 * SECOND));
    }

    #[test]
    fn it_is_known_for_a_moment_after_the_start_of_the_read() {
        let (recent, start) = (ResidencyHint::default(), Instant::now());
        recent.add(&(10..20), start);
        let cases = [
            (10..20, 0, true),
            (12..15, 9, true),
            (10..20, 10, false),
            (9..20, 0, false),
            (10..21, 0, false),
            (30..31, 0, false),
        ];
        for (range, seconds, expected) in cases {
            let found = recent.covers(&range, start + seconds * SECOND);
            assert_eq!(found, expected, "{range:?} after {seconds} s");
        }
    }

    #[test]
    fn parts_that_touch_are_one_as_old_as_the_older() {
        let start = Instant::now();
        // The second part, seconds after the first (10..20) it began; what is known in the end and how old it is.
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
            let recent = ResidencyHint::default();
            recent.add(&(10..20), start);
            recent.add(&second, start + seconds * SECOND);
            let expected = Part {
                start: part.start,
                end: part.end,
                at: start + since * SECOND,
            };
            assert_eq!(recent.part.get(), Some(expected), "{second:?} {seconds}");
        }
    }

    #[test]
    fn a_read_that_took_longer_makes_nothing_older() {
        let (recent, start) = (ResidencyHint::default(), Instant::now());
        recent.add(&(0..100), start + 5 * SECOND);
        recent.add(&(0..100), start);
        assert!(recent.covers(&(0..100), start + 14 * SECOND));
    }
}
