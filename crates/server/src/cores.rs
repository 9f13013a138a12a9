//! Which cores the server runs on.

use tidegate_config::Cores;

use crate::error::Error;

/// The cores to pin a shard on each, of those that this process may use.
pub(crate) fn choose(cores: &Cores) -> Result<Vec<usize>, Error> {
    let available: Vec<usize> = core_affinity::get_core_ids()
        .ok_or(Error::NoCores)?
        .into_iter()
        .map(|core| core.id)
        .collect();
    of(cores, &available)
}

fn of(cores: &Cores, available: &[usize]) -> Result<Vec<usize>, Error> {
    match cores {
        Cores::Auto => Ok(available.to_vec()),
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
            (Cores::Auto, Ok(vec![1, 2, 5])),
            (Cores::Count(2), Ok(vec![1, 2])),
            (Cores::List(vec![5, 1]), Ok(vec![5, 1])),
            (
                Cores::Count(4),
                Err("4 cores are configured, and this process may run on 3 only"),
            ),
            (
                Cores::List(vec![1, 3]),
                Err("core 3 is not available: this process may run on 1,2,5"),
            ),
        ];
        for (cores, expected) in table {
            let chosen = of(&cores, &available).map_err(|error| error.to_string());
            assert_eq!(chosen, expected.map_err(str::to_owned), "{cores:?}");
        }
    }
}
