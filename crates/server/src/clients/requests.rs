//! Requests of each client, and of a whole site, by token buckets.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::table::{Entry, Table, VALUE_MAX};

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
    /// That of the longest burst in the same table.
    longest: u64,
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
        Some(Self {
            interval,
            burst,
            longest: burst,
        })
    }

    /// What tells it from a rate with another interval: what is owed is a time, and one at a slow
    /// rate is long at a fast one.
    pub(crate) fn pace(self) -> u64 {
        self.interval
    }

    /// The same, in a table that has buckets of `others`, too.
    pub(crate) fn beside(self, others: impl IntoIterator<Item = Self>) -> Self {
        let longest = others.into_iter().map(|other| other.burst).max();
        let longest = longest.unwrap_or_default().max(self.burst);
        Self { longest, ..self }
    }

    /// When the bucket is full again after another request at `now`; it is at `full` without.
    ///
    /// # Errors
    ///
    /// There is no token. In so many ticks there is one.
    fn take(self, full: Option<u64>, now: u64) -> Result<u64, u64> {
        let debt = full.map_or(0, |full| debt(full, now, self.burst)) + self.interval;
        match debt.checked_sub(self.burst) {
            None | Some(0) => Ok(now.wrapping_add(debt) & VALUE_MAX),
            Some(missing) => Err(missing),
        }
    }

    /// When the bucket is full if a request that took a token had not come.
    fn give_back(self, full: u64) -> u64 {
        full.wrapping_sub(self.interval) & VALUE_MAX
    }
}

/// How long it is from `now` until a bucket is full whose burst takes at most `burst`. One that was
/// full long ago is so, too: its time looks like one to come, and further away than any can be.
fn debt(full: u64, now: u64, burst: u64) -> u64 {
    let debt = full.wrapping_sub(now) & VALUE_MAX;
    if debt <= burst + SKEW { debt } else { 0 }
}

/// The whole seconds, at least one, of so many ticks.
fn seconds(missing: u64) -> u64 {
    missing.div_ceil(TICKS_PER_SECOND)
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
    pub(super) fn admit(&self, client: impl Hash, rate: Rate, now: Instant) -> Result<Entry, u64> {
        let now = ticks(now.saturating_duration_since(self.epoch));
        self.admit_at(client, rate, now).map_err(seconds)
    }

    /// The same in ticks.
    fn admit_at(&self, client: impl Hash, rate: Rate, now: u64) -> Result<Entry, u64> {
        let weight = |full| debt(full, now, rate.longest);
        self.table
            .update(client, weight, |full| rate.take(full, now))
    }

    /// Gives the token back of a request that another limit refused.
    pub(super) fn give_back(&self, entry: Entry, rate: Rate) {
        self.table.change(entry, |full| rate.give_back(full));
    }

    /// How many clients whose buckets were not full were forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.table.forgotten()
    }
}

/// The bucket of all clients of a site: one word for all cores. They write it as often as requests
/// are admitted, which its own limit bounds.
pub(crate) struct Bucket {
    epoch: Instant,
    /// When it will be full again; [`Bucket::NEW`]: it is.
    full: AtomicU64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            full: AtomicU64::new(Self::NEW),
        }
    }
}

impl Bucket {
    /// No value.
    const NEW: u64 = u64::MAX;

    /// Takes a token at `now`.
    ///
    /// # Errors
    ///
    /// There is none. In so many seconds, at least one, there is.
    pub(super) fn admit(&self, rate: Rate, now: Instant) -> Result<(), u64> {
        let now = ticks(now.saturating_duration_since(self.epoch));
        self.admit_at(rate, now).map_err(seconds)
    }

    /// The same in ticks.
    fn admit_at(&self, rate: Rate, now: u64) -> Result<(), u64> {
        let mut found = self.full.load(Ordering::Relaxed);
        loop {
            let next = rate.take((found != Self::NEW).then_some(found), now)?;
            let order = Ordering::Relaxed;
            match (self.full).compare_exchange_weak(found, next, order, order) {
                Ok(_) => return Ok(()),
                Err(other) => found = other,
            }
        }
    }
}

fn ticks(time: Duration) -> u64 {
    let nanos = time.subsec_nanos() / NANOS_PER_TICK;
    time.as_secs() * TICKS_PER_SECOND + u64::from(nanos)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
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
        let at = |millis| {
            let admitted = table.admit(client, rate, start + Duration::from_millis(millis));
            admitted.map(drop)
        };
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
    #[test]
    fn a_token_that_is_given_back_can_be_taken_again() {
        let (table, rate) = (Requests::default(), rate(1.0, 3));
        let taken = table.admit_at(CLIENT, rate, 0).unwrap();
        assert_eq!(admitted(&table, rate, 0, 10), 2);
        table.give_back(taken, rate);
        assert_eq!(admitted(&table, rate, 0, 10), 1);
    }

    #[test]
    fn buckets_of_several_rates_share_a_table() {
        let (day, short) = (rate(1.0, 86_400), rate(1.0, 2));
        let short = short.beside([day]);
        let table = Requests {
            table: Table::with_sets(1),
            ..Requests::default()
        };
        // The one that is full last stays, by the measure of the shorter ones, too.
        assert!((0..1000).all(|_| table.admit_at((1, CLIENT), day, 0).is_ok()));
        for site in 2..=60 {
            assert!(table.admit_at((site, CLIENT), short, 0).is_ok());
        }
        let left = (0..90_000).filter(|_| table.admit_at((1, CLIENT), day, 0).is_ok());
        assert_eq!(left.count(), 86_400 - 1000);
    }

    #[test]
    fn cores_share_the_bucket_of_a_site() {
        let (bucket, rate) = (Bucket::default(), rate(10.0, 1000));
        let admitted = |now, requests| {
            let admitted = |_: &usize| bucket.admit_at(rate, now).is_ok();
            (0..requests).filter(admitted).count()
        };
        let counts = thread::scope(|scope| {
            let cores = [(); 4].map(|()| scope.spawn(|| admitted(0, 700)));
            cores.map(|core| core.join().unwrap())
        });
        assert_eq!(counts.iter().sum::<usize>(), 1000, "{counts:?}");
        assert_eq!(admitted(SECOND, 100), 10);
        assert_eq!(admitted(1000 * SECOND, 2000), 1000);
        let missing = bucket.admit(rate, bucket.epoch + Duration::from_secs(1000));
        assert_eq!(missing, Err(1));
    }
}
