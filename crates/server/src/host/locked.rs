//! Memory that io_uring locks for the shards, fitted to RLIMIT_MEMLOCK.

use std::iter;

use rustix::process::{Resource, getrlimit};
use tidegate_config::Settings;
use tidegate_uring::executor::{Executor, LOCKED_LIMIT_MIN};
use tidegate_uring::{Config, Trial, queues_count};

use crate::error::Error;

/// Bytes that rings may still lock just after they were closed, such as those of a probe.
const SLACK: u64 = 64 * 1024;

/// The least completions of an op ring. The kernel allocates memory for each that does not fit.
const COMPLETIONS_MIN: u32 = 2048;

/// The lengths of the queues of an op ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    pub(crate) entries: u32,
    pub(crate) completions: u32,
}

/// The queues of the op rings, and the memory that they lock.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) queues: Queues,
    /// Bytes that all shards lock with these queues, if the kernel counts them.
    bytes: u64,
    /// The same with queues of full length.
    wanted: u64,
    /// `None`: no limit.
    limit: Option<u64>,
}

impl Locked {
    /// The longest queues that this process may lock. Lowers the soft limit for a moment: no other
    /// thread may set up rings meanwhile.
    pub(crate) fn fit(settings: &Settings, shards: usize) -> Result<Self, Error> {
        let limit = getrlimit(Resource::Memlock).current;
        let need = |queues| total(settings, queues, shards);
        let queues = match limit {
            Some(limit) if limit < LOCKED_LIMIT_MIN => None,
            Some(_) => longest_lockable(need)?,
            None => Some(Queues::full()),
        };
        let wanted = need(Queues::full());
        match queues {
            Some(queues) => Ok(Self {
                queues,
                bytes: need(queues),
                wanted,
                limit,
            }),
            None => Err(Error::LockedMemory {
                limit: limit.unwrap_or(u64::MAX),
                cores: shards,
                least: least(need),
                wanted,
            }),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queues == Queues::full()
    }

    /// The locked bytes, and the remedy if the queues are not of full length.
    pub(crate) fn text(&self) -> String {
        let limit = match self.limit {
            Some(limit) => format!("of {limit} that processes of this user may lock together"),
            None => "without a limit".to_owned(),
        };
        let text = format!("io_uring locks up to {} bytes in all, {limit}", self.bytes);
        if self.is_full() {
            return text;
        }
        let Queues {
            entries,
            completions,
        } = self.queues;
        format!(
            "{text}: queues of {entries} and {completions} entries, shorter than wanted; raise \
             RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK=) to {} and what other processes of the \
             user lock",
            self.wanted.max(LOCKED_LIMIT_MIN)
        )
    }

    /// Logs queues that are not of full length.
    pub(crate) fn log(&self) {
        if !self.is_full() {
            tracing::info!("{}", self.text());
        }
    }
}

impl Queues {
    pub(crate) fn full() -> Self {
        let Config {
            entries,
            completions,
            ..
        } = Config::default();
        Self {
            entries,
            completions,
        }
    }
}

/// The lengths to try, each half of the one before.
fn lengths() -> impl Iterator<Item = Queues> {
    iter::successors(Some(Queues::full()), |queues| {
        let half = Queues {
            entries: queues.entries / 2,
            completions: queues.completions / 2,
        };
        (half.completions >= COMPLETIONS_MIN).then_some(half)
    })
}

/// The queues and buffers of a shard's ring.
pub(crate) fn ring_config(settings: &Settings, queues: Queues) -> Config {
    Config {
        entries: queues.entries,
        completions: queues.completions,
        recv_buffers: settings.io.recv_buffers,
        recv_buffer_bytes: settings.io.recv_buffer_size,
        ..Config::default()
    }
}

/// Bytes that `shards` shards lock.
fn total(settings: &Settings, queues: Queues, shards: usize) -> u64 {
    let shard = Executor::locked_bytes() + ring_config(settings, queues).locked_bytes();
    SLACK + shard * shards as u64
}

/// The longest queues that may be locked; full ones if the kernel does not count them.
fn longest_lockable(need: impl Fn(Queues) -> u64) -> Result<Option<Queues>, Error> {
    let trial = Trial::new().map_err(Error::Uring)?;
    if trial.may_lock(need(Queues::full())).map_err(Error::Uring)? || !queues_count() {
        return Ok(Some(Queues::full()));
    }
    longest(|queues| trial.may_lock(need(queues)).map_err(Error::Uring))
}

/// The first length that is `enough`.
fn longest(mut enough: impl FnMut(Queues) -> Result<bool, Error>) -> Result<Option<Queues>, Error> {
    for queues in lengths() {
        if enough(queues)? {
            return Ok(Some(queues));
        }
    }
    Ok(None)
}

/// The least sufficient limit.
fn least(need: impl Fn(Queues) -> u64) -> u64 {
    let needed = queues_count().then(|| lengths().map(need).min()).flatten();
    needed.unwrap_or_default().max(LOCKED_LIMIT_MIN)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn need(queues: Queues, shards: usize) -> u64 {
        let settings = Settings::for_directory(PathBuf::from("."));
        total(&settings, queues, shards) - SLACK
    }

    #[test]
    fn what_a_shard_locks_is_the_sum_of_its_rings_and_buffers() {
        let executor = 3 * (64 + 16);
        let buffers = 16;
        let full = executor + buffers + 64 + 264;
        assert_eq!(need(Queues::full(), 1), full * 1024);
        assert_eq!(need(Queues::full(), 16), 16 * full * 1024);
        let least = lengths().last().unwrap();
        assert_eq!(need(least, 1), (executor + buffers + 8 + 36) * 1024);
    }

    #[test]
    fn queues_are_halved_until_they_fit() {
        let table = [
            (16, 16 << 20, Some((1024, 16_384))),
            (16, 8 << 20, Some((512, 8192))),
            (16, 6 << 20, Some((256, 4096))),
            (16, 5 << 20, Some((128, 2048))),
            (16, 4 << 20, None),
            (1, 512 << 10, Some((512, 8192))),
        ];
        for (shards, room, expected) in table {
            let found = longest(|queues| Ok(need(queues, shards) <= room)).unwrap();
            let found = found.map(|queues| (queues.entries, queues.completions));
            assert_eq!(found, expected, "{shards} shards in {room} bytes");
        }
    }
}
