//! How much of the budget is used, for all cores.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use crate::host::budget::{Budget, Use};

/// Parts of a hundred of the budget from which on memory is short.
const SHORT_PERCENT: u64 = 90;

/// And below which it is not any more.
const ENOUGH_PERCENT: u64 = 80;

/// How much of the budget is used. One thread writes it, cores read it when they accept and when
/// they are woken, never for a request.
pub(crate) struct Pressure {
    budget: Mutex<Budget>,
    /// Bytes, of whichever bound is used most.
    used: AtomicU64,
    used_max: AtomicU64,
    /// Bytes until memory is short.
    room: AtomicU64,
    is_short: AtomicBool,
    /// How often it was read.
    reading: AtomicU32,
    /// How often memory became short.
    shortages: AtomicU64,
    /// A core waits for the next reading.
    is_awaited: AtomicBool,
    reader: OnceLock<Thread>,
}

/// What a core sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) number: u32,
    pub(crate) is_short: bool,
    /// Bytes until memory is short, for all cores.
    pub(crate) room: u64,
}

impl Pressure {
    /// Nothing is read yet: there is room for whatever the budget allows.
    pub(crate) fn new(budget: Budget) -> Self {
        let (room, used_max) = (budget.bytes / 100 * SHORT_PERCENT, budget.bytes);
        Self {
            budget: Mutex::new(budget),
            used: AtomicU64::new(0),
            used_max: AtomicU64::new(used_max),
            room: AtomicU64::new(room),
            is_short: AtomicBool::new(false),
            reading: AtomicU32::new(0),
            shortages: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            reader: OnceLock::new(),
        }
    }

    pub(crate) fn set_budget(&self, budget: Budget) {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = budget;
        self.read_soon();
    }

    /// The last reading.
    pub(crate) fn last(&self) -> Reading {
        Reading {
            number: self.reading.load(Ordering::Acquire),
            is_short: self.is_short.load(Ordering::Relaxed),
            room: self.room.load(Ordering::Relaxed),
        }
    }

    /// Bytes that are used, and the most that may be.
    pub(crate) fn used(&self) -> Use {
        Use {
            bytes: self.used.load(Ordering::Relaxed),
            bytes_max: self.used_max.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    pub(crate) fn shortages(&self) -> u64 {
        self.shortages.load(Ordering::Relaxed)
    }

    /// Has it read soon, and all cores woken then.
    pub(crate) fn read_soon(&self) {
        if !self.is_awaited.swap(true, Ordering::Relaxed)
            && let Some(reader) = self.reader.get()
        {
            reader.unpark();
        }
    }

    /// Has all cores woken after the next reading, whenever it comes.
    pub(crate) fn wake_next(&self) {
        self.is_awaited.store(true, Ordering::Relaxed);
    }

    /// Takes the calling thread as the one that reads.
    pub(super) fn begin(&self) {
        let _ = self.reader.set(std::thread::current());
    }

    /// Reads what is used. Returns whether the cores are to know.
    pub(super) fn read(&self) -> bool {
        let uses: Vec<Use> = {
            let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.uses().collect()
        };
        self.publish(&uses)
    }

    pub(super) fn publish(&self, uses: &[Use]) -> bool {
        let was_short = self.is_short();
        let is_short = uses.iter().any(|one| is_short(*one, was_short));
        let room = uses.iter().map(|one| room(*one)).min();
        if let Some(fullest) = uses.iter().max_by_key(|one| percent(**one)) {
            self.used.store(fullest.bytes, Ordering::Relaxed);
            self.used_max.store(fullest.bytes_max, Ordering::Relaxed);
        }
        self.room.store(room.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.is_short.store(is_short, Ordering::Relaxed);
        if is_short && !was_short {
            self.shortages.fetch_add(1, Ordering::Relaxed);
        }
        self.reading.fetch_add(1, Ordering::Release);
        self.is_awaited.swap(false, Ordering::Relaxed) || is_short || was_short
    }

    /// Whether so much is used that it may soon be short.
    pub(super) fn is_near(&self) -> bool {
        percent(self.used()) >= 50
    }
}

fn percent(one: Use) -> u64 {
    let percent = u128::from(one.bytes) * 100 / u128::from(one.bytes_max.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// Whether memory is short. Hysteresis: caches that grow again do not make it so at once.
fn is_short(one: Use, was_short: bool) -> bool {
    let limit = if was_short {
        ENOUGH_PERCENT
    } else {
        SHORT_PERCENT
    };
    percent(one) >= limit
}

/// Bytes until it is.
fn room(one: Use) -> u64 {
    (one.bytes_max / 100 * SHORT_PERCENT).saturating_sub(one.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn used(bytes: u64) -> Use {
        Use {
            bytes,
            bytes_max: 1000,
        }
    }

    fn pressure() -> Pressure {
        Pressure::new(Budget::unlimited())
    }

    #[test]
    fn memory_is_short_from_nine_tenths_on_until_less_than_eight_are_used() {
        let pressure = pressure();
        let table = [
            (100, false, 800),
            (899, false, 1),
            (900, true, 0),
            (1200, true, 0),
            (850, true, 50),
            (800, true, 100),
            (799, false, 101),
            (899, false, 1),
        ];
        for (number, (bytes, is_short, room)) in (1..).zip(table) {
            pressure.publish(&[used(bytes)]);
            let expected = Reading {
                number,
                is_short,
                room,
            };
            assert_eq!(pressure.last(), expected, "{bytes}");
        }
        assert_eq!(pressure.shortages(), 1);
    }

    #[test]
    fn the_fullest_of_several_bounds_counts() {
        let pressure = pressure();
        let other = Use {
            bytes: 95,
            bytes_max: 100,
        };
        pressure.publish(&[used(500), other]);
        assert_eq!((pressure.used(), pressure.is_short()), (other, true));
        pressure.publish(&[]);
        assert_eq!(pressure.last().room, u64::MAX);
    }

    #[test]
    fn cores_are_told_of_shortages_and_their_end_and_what_they_ask_for() {
        let pressure = pressure();
        assert!(!pressure.publish(&[used(1)]));
        pressure.read_soon();
        assert!(pressure.publish(&[used(1)]));
        assert!(!pressure.publish(&[used(1)]));
        assert!(pressure.publish(&[used(950)]) && pressure.publish(&[used(950)]));
        assert!(pressure.publish(&[used(1)]));
        assert!(!pressure.publish(&[used(1)]));
    }
}
