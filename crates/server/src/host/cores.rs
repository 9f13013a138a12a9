//! The choice of cores.

use std::num::NonZero;
use std::{io, thread};

use core_affinity::CoreId;
use tidegate_config::Cores;

use crate::error::Error;

/// The chosen cores.
pub(crate) struct Chosen {
    /// One for each shard.
    pub(crate) cores: Vec<usize>,
    /// How many this process may run on.
    available: usize,
    /// The CPU quota in cores, rounded down: at least 1, at most `available`.
    quota: usize,
}

/// Chooses the cores of the shards from those of this process.
pub(crate) fn choose(cores: &Cores) -> Result<Chosen, Error> {
    let available: Vec<usize> = core_affinity::get_core_ids()
        .ok_or(Error::NoCores)?
        .into_iter()
        .map(|core| core.id)
        .collect();
    // It reads the quotas of the cgroup and its ancestors, versions 1 and 2.
    let quota = thread::available_parallelism().map_or(available.len(), NonZero::get);
    Ok(Chosen {
        cores: of(cores, &available, quota)?,
        available: available.len(),
        quota,
    })
}

impl Chosen {
    /// Whether the shards together may use more CPU than the quota allows.
    pub(crate) fn exceeds_quota(&self) -> bool {
        self.cores.len() > self.quota
    }

    /// The effect of the CPU quota on the shards; `None` if there is none.
    pub(crate) fn quota_text(&self) -> Option<String> {
        let (chosen, quota) = (self.cores.len(), self.quota);
        if self.exceeds_quota() {
            Some(format!(
                "the CPU quota of the cgroup is worth {quota} of them: all are stopped together \
                 when it is used up; set server.cores to \"auto\" or {quota}, or raise the quota"
            ))
        } else if quota < self.available && chosen == quota {
            Some(format!(
                "the CPU quota of the cgroup is worth {quota} of {} cores",
                self.available
            ))
        } else {
            None
        }
    }

    /// Logs the effect of the CPU quota.
    pub(crate) fn log(&self) {
        let shards = self.cores.len();
        match self.quota_text() {
            Some(text) if self.exceeds_quota() => tracing::warn!(shards, "{text}"),
            Some(text) => tracing::info!(shards, "{text}"),
            None => {}
        }
    }
}

/// Pins the calling thread on `core`. Where a sandbox forbids it, the scheduler places the thread.
pub(crate) fn pin(core: usize) {
    if !core_affinity::set_for_current(CoreId { id: core }) {
        let error = io::Error::last_os_error();
        tracing::warn!(core, %error, "cannot pin a shard (sched_setaffinity); it runs on any core");
    }
}

/// The quota limits [`Cores::Auto`] alone.
fn of(cores: &Cores, available: &[usize], quota: usize) -> Result<Vec<usize>, Error> {
    match cores {
        Cores::Auto => Ok(available.iter().copied().take(quota).collect()),
        Cores::Count(count) => match available.get(..*count) {
            Some(first) => Ok(first.to_vec()),
            None => Err(Error::CoreCount {
                count: *count,
                available: available.len(),
            }),
        },
        Cores::List(list) => match list.iter().find(|core| !available.contains(core)) {
            None => Ok(list.clone()),
            Some(core) => Err(Error::Core {
                core: *core,
                available: text(available),
            }),
        },
    }
}

fn text(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_taken_from_those_available() {
        let available = [1, 2, 5];
        let table = [
            (Cores::Auto, 3, Ok(vec![1, 2, 5])),
            (Cores::Auto, 2, Ok(vec![1, 2])),
            (Cores::Auto, 1, Ok(vec![1])),
            (Cores::Count(2), 3, Ok(vec![1, 2])),
            (Cores::Count(2), 1, Ok(vec![1, 2])),
            (Cores::List(vec![5, 1]), 3, Ok(vec![5, 1])),
            (Cores::List(vec![5, 1]), 1, Ok(vec![5, 1])),
            (
                Cores::Count(4),
                3,
                Err("4 cores are configured, and this process may run on 3 only"),
            ),
            (
                Cores::List(vec![1, 3]),
                3,
                Err("core 3 is not available: this process may run on 1,2,5"),
            ),
        ];
        for (cores, quota, expected) in table {
            let chosen = of(&cores, &available, quota).map_err(|error| error.to_string());
            assert_eq!(chosen, expected.map_err(str::to_owned), "{cores:?} {quota}");
        }
    }

    #[test]
    fn a_quota_is_reported_if_it_costs_cores_or_is_exceeded() {
        // Chosen, available, quota: whether it is exceeded, and the text.
        let table = [
            (2, 2, 2, false, None),
            (1, 2, 2, false, None),
            (1, 64, 2, false, None),
            (2, 64, 2, false, Some("worth 2 of 64 cores")),
            (3, 64, 2, true, Some("worth 2 of them")),
        ];
        for (shards, available, quota, exceeded, told) in table {
            let chosen = Chosen {
                cores: (0..shards).collect(),
                available,
                quota,
            };
            let text = chosen.quota_text();
            assert_eq!(chosen.exceeds_quota(), exceeded, "{shards} {quota}");
            assert_eq!(text.is_some(), told.is_some(), "{text:?}");
            assert!(told.is_none_or(|told| text.unwrap().contains(told)));
        }
    }
}
