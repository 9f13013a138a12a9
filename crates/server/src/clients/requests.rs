//! Requests of each client, by a token bucket.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::table::{Table, VALUE_MAX};

/// Units of time in a second. Three days are a turn of the clock in a value.
const TICKS_PER_SECOND: u64 = 4_000_000;
const NANOS_PER_TICK: u32 = 250;

/// How much older than another core's the time of a request may be.
const SKEW: u64 = 60 * TICKS_PER_SECOND;

/// How many requests a client may send, in the long run and at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Time that a request takes up.
    interval: u64,
    /// That of a burst.
    burst: u64,
}

/// When the bucket of each client will be full again (the generic cell rate algorithm): a bucket is
/// one number, and a request adds an interval to it. The one that is full first is forgotten first;
/// one that is full already loses nothing.
pub(crate) struct Requests {
    epoch: Instant,
    table: Table,
}

impl Rate {
    /// `per_second` in the long run, `burst` at once: at least one, and not more than in a day.
    /// `None`: no limit.
    pub(crate) fn new(per_second: f64, burst: u32) -> Option<Self> {
        if per_second <= 0.0 {
            return None;
        }
        let interval = (TICKS_PER_SECOND as f64 / per_second).round().max(1.0) as u64;
        let burst = interval.saturating_mul(burst.into());
        debug_assert!(burst + SKEW < VALUE_MAX / 2, "more than a day");
        Some(Self { interval, burst })
    }

    /// When the bucket is full again after another request at `now`; it is at `full` without.
    ///
    /// # Errors
    ///
    /// There is no token. In so many ticks there is one.
    fn take(self, full: Option<u64>, now: u64) -> Result<u64, u64> {
        let debt = full.map_or(0, |full| self.debt(full, now)) + self.interval;
        match debt.checked_sub(self.burst) {
            None | Some(0) => Ok(now.wrapping_add(debt) & VALUE_MAX),
            Some(missing) => Err(missing),
        }
    }

    /// How long it is from `now` until a bucket is full. One that was full long ago is so, too:
    /// its time looks like one to come, and further away than any can be.
    fn debt(self, full: u64, now: u64) -> u64 {
        let debt = full.wrapping_sub(now) & VALUE_MAX;
        if debt <= self.burst + SKEW { debt } else { 0 }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            table: Table::default(),
        }
    }
}

impl Requests {
    /// Takes a token of `client` at `now`.
    ///
    /// # Errors
    ///
    /// There is none. In so many seconds, at least one, there is.
    pub(super) fn admit(&self, client: IpAddr, rate: Rate, now: Instant) -> Result<(), u64> {
        let now = ticks(now.saturating_duration_since(self.epoch));
        let admitted = self.admit_at(client, rate, now);
        admitted.map_err(|missing| missing.div_ceil(TICKS_PER_SECOND))
    }

    /// The same in ticks.
    fn admit_at(&self, client: IpAddr, rate: Rate, now: u64) -> Result<(), u64> {
        let weight = |full| rate.debt(full, now);
        let taken = self
            .table
            .update(client, weight, |full| rate.take(full, now));
        taken.map(drop)
    }

    /// How many clients whose buckets were not full were forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.table.forgotten()
    }
}

fn ticks(time: Duration) -> u64 {
    let nanos = time.subsec_nanos() / NANOS_PER_TICK;
    time.as_secs() * TICKS_PER_SECOND + u64::from(nanos)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SECOND: u64 = TICKS_PER_SECOND;
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn rate(per_second: f64, burst: u32) -> Rate {
        Rate::new(per_second, burst).unwrap()
    }

    /// How many of `requests` at `now` are admitted.
    fn admitted(table: &Requests, rate: Rate, now: u64, requests: usize) -> usize {
        let admitted = |_: &usize| table.admit_at(CLIENT, rate, now).is_ok();
        (0..requests).filter(admitted).count()
    }

    #[test]
    fn a_burst_then_a_rate() {
        let (table, rate) = (Requests::default(), rate(10.0, 3));
        // By tenths of a second.
        let at = |tenths: u64| admitted(&table, rate, 5 * SECOND + tenths * SECOND / 10, 10);
        assert_eq!(at(0), 3, "the burst");
        assert_eq!(at(0), 0);
        assert_eq!(at(1), 1);
        assert_eq!(at(3), 2);
        assert_eq!(at(1000), 3, "no more than the burst");
        assert_eq!(at(999), 0, "a core that is behind");
        assert_eq!(table.forgotten(), 0);
    }

    #[test]
    fn a_refusal_says_when_there_is_a_token() {
        let (table, rate) = (Requests::default(), rate(0.5, 2));
        let (client, start) = (CLIENT, table.epoch);
        let at = |millis| table.admit(client, rate, start + Duration::from_millis(millis));
        assert_eq!((at(0), at(0)), (Ok(()), Ok(())));
        assert_eq!(at(0), Err(2));
        assert_eq!(at(999), Err(2));
        assert_eq!(at(1000), Err(1));
        assert_eq!(at(1999), Err(1), "at least one second");
        assert_eq!(at(2000), Ok(()));
    }

    #[test]
    fn a_rate_is_kept_within_two_percent() {
        for per_second in [
            0.001, 0.3, 1.0, 7.0, 333.0, 9_999.0, 70_001.0, 98_765.0, 100_000.0,
        ] {
            let interval = rate(per_second, 1).interval as f64;
            let kept = TICKS_PER_SECOND as f64 / interval;
            assert!(
                (kept / per_second - 1.0).abs() < 0.02,
                "{per_second}: {kept}"
            );
        }
        assert!(Rate::new(0.0, 1).is_none());
    }

    #[test]
    fn the_clock_of_a_value_may_turn() {
        let (table, rate) = (Requests::default(), rate(1.0, 5));
        // The bucket is full again behind the turn.
        let turn = VALUE_MAX + 1;
        assert_eq!(admitted(&table, rate, turn - 2 * SECOND, 10), 5);
        assert_eq!(admitted(&table, rate, turn - SECOND, 10), 1);
        assert_eq!(admitted(&table, rate, turn + SECOND, 10), 2);
        assert_eq!(admitted(&table, rate, turn + SECOND, 10), 0);
        // One that was full long ago is full, and so it is nearly a turn later.
        for later in [10 * SECOND, turn / 4, turn / 2, turn - 100 * SECOND] {
            let table = Requests::default();
            assert_eq!(admitted(&table, rate, 0, 10), 5);
            assert_eq!(admitted(&table, rate, later, 10), 5, "after {later}");
        }
    }

    #[test]
    fn the_longest_time_is_told_from_a_turn() {
        // A day, the most that the configuration allows.
        let day = rate(1.0, 86_400);
        assert!(day.burst + SKEW < VALUE_MAX / 2);
        let table = Requests::default();
        assert_eq!(admitted(&table, day, 0, 90_000), 86_400);
        assert_eq!(admitted(&table, day, 86_400 * SECOND, 90_000), 86_400);
    }

    #[test]
    fn the_bucket_that_is_full_first_makes_room() {
        let table = Requests {
            table: Table::with_sets(1),
            ..Requests::default()
        };
        let rate = rate(1.0, 5);
        let admit = |host: u8, now| {
            let client = IpAddr::from([192, 0, 2, host]);
            table.admit_at(client, rate, now * SECOND).is_ok()
        };
        // One uses its burst, and so many others come that each set is full many times.
        assert!((0..5).all(|_| admit(1, 100)) && !admit(1, 100));
        for host in 2..=60 {
            assert!(admit(host, 100), "{host}");
        }
        assert!(!admit(1, 100), "it is known still");
        assert_eq!(table.forgotten(), 59 - 7);
        // Those that are full are forgotten without a loss.
        for host in 2..=60 {
            assert!(admit(host, 200 + u64::from(host)), "{host}");
        }
        assert_eq!(table.forgotten(), 59 - 7);
    }

    #[test]
    fn cores_share_a_bucket() {
        let (table, rate) = (Requests::default(), rate(1.0, 1000));
        let counts = thread::scope(|scope| {
            let cores = [(); 4].map(|()| scope.spawn(|| admitted(&table, rate, 0, 700)));
            cores.map(|core| core.join().unwrap())
        });
        assert_eq!(counts.iter().sum::<usize>(), 1000, "{counts:?}");
    }
}
