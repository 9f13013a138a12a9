//! How fast the client of each connection takes responses or sends requests, from what the kernel
//! counts: which are below the least rate, and which are the slowest.
//!
//! A pass looks at every connection, each few seconds. Connections do nothing for it.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_config::{Limits, Timeouts};

/// Connections that were looked at for a shorter time are not slow yet.
const KNOWN_AFTER: Duration = Duration::from_secs(4);

/// The longest time between two passes, and the shortest.
const PASS_MAX: Duration = Duration::from_secs(5);
const PASS_MIN: Duration = Duration::from_secs(1);

/// Passes in the time over which a rate is averaged.
const PASSES: u32 = 5;

/// What a connection waits for its client to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// To take more of a response.
    Reads,
    /// To send the rest of a request.
    Sends,
    /// To begin, by a handshake or a request.
    Begins,
}

/// A least rate, in bytes a second; zero: there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Least {
    rate: u64,
    /// Over which it is averaged.
    time: Duration,
}

/// The least rates of `[limits]`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeastRates {
    reader: Least,
    sender: Least,
    /// What is slower makes room when a core has its most connections.
    crowded: u64,
}

/// What was seen of a connection.
#[derive(Clone, Copy, Debug)]
struct Sample {
    client: Client,
    /// When its average began, and the bytes until then.
    since: Duration,
    bytes: u64,
    /// The last rate that was known.
    rate: Option<u64>,
}

/// The connections of a core that wait for their clients. A connection is a number that no other has
/// had.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    known: HashMap<u64, Sample>,
    /// Those below [`LeastRates::crowded`], the slowest last.
    slow: Vec<(u64, u64)>,
    /// The same of the pass that has begun.
    next_known: HashMap<u64, Sample>,
    next_slow: Vec<(u64, u64)>,
}

/// What a pass sees of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) connection: u64,
    pub(crate) client: Client,
    /// Those that the client has acknowledged, or sent, so far.
    pub(crate) bytes: u64,
    /// The highest rate that the server itself allows, in bytes a second.
    pub(crate) rate_max: u64,
    /// Since the start of the process or the like.
    pub(crate) now: Duration,
}

impl LeastRates {
    /// Those of a configuration. A client that takes nothing at all has `timeouts.send-stall`,
    /// which nothing here shortens.
    pub(crate) fn of(limits: &Limits, timeouts: &Timeouts) -> Self {
        Self {
            reader: Least {
                rate: limits.send_rate_min,
                time: limits.send_rate_grace.max(timeouts.send_stall),
            },
            sender: Least {
                rate: limits.receive_rate_min,
                time: limits.receive_rate_grace,
            },
            crowded: limits.crowded_rate_min,
        }
    }

    /// How often a pass is due; `None`: never.
    pub(crate) fn pass_every(&self) -> Option<Duration> {
        let times = [self.reader, self.sender].into_iter();
        let times = times.filter(|least| least.rate > 0);
        let times = times.map(|least| (least.time / PASSES).clamp(PASS_MIN, PASS_MAX));
        let crowded = (self.crowded > 0).then_some(PASS_MAX);
        times.chain(crowded).min()
    }

    fn of_client(&self, client: Client) -> Least {
        match client {
            Client::Reads => self.reader,
            Client::Sends => self.sender,
            // It has `timeouts.header`.
            Client::Begins => Least::default(),
        }
    }
}

impl Rates {
    /// Takes what a pass has seen. Returns whether the client is too slow.
    pub(crate) fn see(&mut self, seen: Seen, least: &LeastRates) -> bool {
        let known = self.known.get(&seen.connection).copied();
        let known = known.filter(|known| known.client == seen.client);
        let mut sample = known.unwrap_or(Sample {
            client: seen.client,
            since: seen.now,
            bytes: seen.bytes,
            rate: None,
        });
        let time = seen.now.saturating_sub(sample.since);
        if time >= KNOWN_AFTER {
            sample.rate = Some(rate(seen.bytes.saturating_sub(sample.bytes), time));
        }
        // Paced to a rate, a client may be somewhat slower.
        let rate_max = seen.rate_max / 2;
        let own = least.of_client(seen.client);
        if time >= own.time && own.rate > 0 {
            let moved = rate(seen.bytes.saturating_sub(sample.bytes), time);
            if moved < own.rate.min(rate_max) {
                return true;
            }
            (sample.since, sample.bytes) = (seen.now, seen.bytes);
        } else if own.rate == 0 && time >= PASS_MAX * PASSES {
            (sample.since, sample.bytes) = (seen.now, seen.bytes);
        }
        if let Some(rate) = sample.rate
            && rate < least.crowded.min(rate_max)
        {
            self.next_slow.push((rate, seen.connection));
        }
        self.next_known.insert(seen.connection, sample);
        false
    }

    /// A pass has seen all connections. Those that it did not see begin anew.
    pub(crate) fn end_pass(&mut self) {
        self.known = std::mem::take(&mut self.next_known);
        self.slow = std::mem::take(&mut self.next_slow);
        self.slow.sort_unstable_by_key(|slow| u64::MAX - slow.0);
    }

    /// Takes the slowest of those that make room.
    pub(crate) fn take_slowest(&mut self) -> Option<u64> {
        self.slow.pop().map(|(_, connection)| connection)
    }
}

/// Bytes in a second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(reader: u64, sender: u64, crowded: u64) -> LeastRates {
        let second = Duration::from_secs(1);
        LeastRates {
            reader: Least {
                rate: reader,
                time: 60 * second,
            },
            sender: Least {
                rate: sender,
                time: 5 * second,
            },
            crowded,
        }
    }

    fn seen(connection: u64, client: Client, bytes: u64, seconds: u64) -> Seen {
        Seen {
            connection,
            client,
            bytes,
            rate_max: u64::MAX,
            now: Duration::from_secs(seconds),
        }
    }

    /// The second in which a connection is too slow, if it moves so many bytes in each of a pass
    /// every 5 s; none in five minutes.
    fn too_slow_at(least: &LeastRates, client: Client, bytes: impl Fn(u64) -> u64) -> Option<u64> {
        let mut rates = Rates::default();
        let mut all = 1000;
        (0..60).map(|pass| pass * 5).find(|second| {
            all += bytes(*second);
            let is_slow = rates.see(seen(7, client, all, *second), least);
            rates.end_pass();
            is_slow
        })
    }

    #[test]
    fn a_client_is_cut_below_the_least_rate_and_not_above() {
        let least = least(100, 200, 0);
        let reads = |bytes: u64| too_slow_at(&least, Client::Reads, |_| bytes * 5);
        assert_eq!([reads(0), reads(99)], [Some(60); 2]);
        assert_eq!([reads(100), reads(1_000_000)], [None; 2]);
        let sends = |bytes: u64| too_slow_at(&least, Client::Sends, |_| bytes * 5);
        assert_eq!([sends(0), sends(199)], [Some(5); 2]);
        assert_eq!(sends(200), None);
        assert_eq!(too_slow_at(&least, Client::Begins, |_| 0), None);
    }

    #[test]
    fn the_rate_is_an_average() {
        let least = least(100, 0, 0);
        // All at the end of each minute, and then a minute without.
        let late = |second: u64| if second % 60 == 55 { 6000 } else { 0 };
        assert_eq!(too_slow_at(&least, Client::Reads, late), None);
        let once = |second: u64| if second == 55 { 600_000 } else { 0 };
        assert_eq!(too_slow_at(&least, Client::Reads, once), Some(120));
    }

    #[test]
    fn who_is_paced_is_not_blamed() {
        let least = least(1000, 0, 1000);
        let mut rates = Rates::default();
        for second in (0..300).step_by(5) {
            let paced = Seen {
                rate_max: 1024,
                ..seen(1, Client::Reads, second * 600, second)
            };
            assert!(!rates.see(paced, &least));
            rates.end_pass();
            assert_eq!(rates.take_slowest(), None);
        }
    }

    #[test]
    fn who_has_nothing_to_take_for_a_while_begins_anew() {
        let least = least(100, 0, 0);
        let mut rates = Rates::default();
        for second in (0..600).step_by(5) {
            if second % 30 != 0 {
                assert!(!rates.see(seen(1, Client::Reads, 0, second), &least));
            }
            rates.end_pass();
        }
        assert!(rates.known.len() <= 1);
    }

    #[test]
    fn the_slowest_come_first_and_newcomers_and_fast_ones_never() {
        let least = least(0, 0, 1000);
        let mut rates = Rates::default();
        let clients = [
            (1, Client::Reads, 900),
            (2, Client::Sends, 10),
            (3, Client::Reads, 1000),
            (4, Client::Begins, 0),
            (5, Client::Reads, 500),
        ];
        for second in [0, 5, 10] {
            for (connection, client, rate) in clients {
                assert!(!rates.see(seen(connection, client, rate * second, second), &least));
            }
            assert!(!rates.see(seen(100 + second, Client::Reads, 0, second), &least));
            rates.end_pass();
        }
        let slowest: Vec<_> = std::iter::from_fn(|| rates.take_slowest()).collect();
        assert_eq!(slowest, [4, 2, 5, 1]);
        rates.end_pass();
        assert_eq!((rates.take_slowest(), rates.known.len()), (None, 0));
    }

    #[test]
    fn passes_come_as_often_as_a_limit_needs() {
        let every = |least: LeastRates| least.pass_every().map(|time| time.as_millis());
        assert_eq!(every(least(0, 0, 0)), None);
        assert_eq!(every(least(1, 0, 0)), Some(5000));
        assert_eq!(every(least(0, 0, 1)), Some(5000));
        assert_eq!(every(least(1, 1, 1)), Some(1000));
    }

    #[test]
    fn a_stall_has_its_own_time_at_least() {
        let mut limits = Limits::default();
        let mut timeouts = tidegate_config::Settings::for_directory("/".into()).timeouts;
        for (stall, grace, expected) in [(600, 60, 600), (10, 60, 60), (60, 30, 60)] {
            timeouts.send_stall = Duration::from_secs(stall);
            limits.send_rate_grace = Duration::from_secs(grace);
            let least = LeastRates::of(&limits, &timeouts);
            assert_eq!(least.reader.time.as_secs(), expected);
        }
    }
}
