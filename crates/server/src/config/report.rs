//! Whether origins answer and the disk of their cache takes writes, for `tidegate doctor`.

use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tidegate_config::{DiskCache, Settings};
use tidegate_origin::store::{StoreError, Survey, survey};
use tidegate_origin::{Endpoint, Error as OriginError, probe_all};

use crate::config::origins::endpoint;
use crate::error::Error;
use crate::host::finding::{Finding, Verdict, finding};
use crate::host::system::{file_system_of, is_remote};

/// How long the disk has for an answer.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// Asks each origin of `settings` once, and looks at the disk of their cache. Blocking: 5 s for all
/// origins, and as much for the disk.
pub fn origin_report(settings: &Settings) -> Vec<Finding> {
    if settings.sites.iter().all(|site| site.origins.is_empty()) {
        return Vec::new();
    }
    let disk = settings.cache.disk.as_ref();
    let disk = disk.map(|disk| finding("cache disk", examine(disk)));
    let origins = origins(settings).into_iter();
    let origins = origins.map(|verdict| finding("origin", verdict));
    disk.into_iter().chain(origins).collect()
}

/// A verdict on each origin, in the order of the configuration.
fn origins(settings: &Settings) -> Vec<Verdict> {
    let mut configured = Vec::new();
    for origin in settings.sites.iter().flat_map(|site| &site.origins) {
        if !configured.contains(&origin) {
            configured.push(origin);
        }
    }
    let made: Vec<_> = configured.into_iter().map(endpoint).collect();
    let endpoints: Vec<&Endpoint> = made.iter().filter_map(|made| made.as_ref().ok()).collect();
    let answers = match probe_all(&endpoints) {
        Ok(answers) => answers,
        Err(error) => return vec![Verdict::Fair(format!("no origin can be asked: {error}"))],
    };
    let asked = endpoints.iter().zip(answers);
    let verdicts: Vec<_> = asked
        .map(|(endpoint, answer)| answered(endpoint.name(), answer.map(|status| status.as_u16())))
        .collect();
    let refused = made.into_iter().filter_map(Result::err);
    let refused = refused.map(|error| Verdict::Bad(error.into()));
    verdicts.into_iter().chain(refused).collect()
}

fn answered(name: &str, answer: Result<u16, OriginError>) -> Verdict {
    match answer {
        Ok(status @ (404 | 410)) => Verdict::Good(format!(
            "{name} answers, with {status} for its prefix: it has no object of that name"
        )),
        Ok(status @ (401 | 403)) => Verdict::Fair(format!(
            "{name} answers {status} for its prefix: well if it only forbids to list it; else \
             check credentials, and the policy of the bucket"
        )),
        Ok(status) if status < 400 => Verdict::Good(format!("{name} answers {status}")),
        Ok(status) => Verdict::Fair(format!(
            "{name} answers {status} for its prefix: look at its log"
        )),
        Err(error) => Verdict::Fair(error.to_string()),
    }
}

/// A verdict on the disk. A thread looks at it, as it may not answer.
fn examine(disk: &DiskCache) -> Verdict {
    let path = disk.path.clone();
    let (sender, receiver) = sync_channel(1);
    let started = thread::Builder::new().spawn(move || sender.send(look_at(&path)));
    if let Err(error) = started {
        let path = disk.path.display();
        return Verdict::Fair(format!("{path} cannot be looked at: {error}"));
    }
    match receiver.recv_timeout(DISK_PATIENCE) {
        Ok(Ok((survey, system))) => verdict(disk, &survey, system),
        Ok(Err(error)) => Verdict::Bad(refused(error).into()),
        Err(_) => Verdict::Fair(format!(
            "{} does not answer within {} s: check the disk, or the host that has it",
            disk.path.display(),
            DISK_PATIENCE.as_secs()
        )),
    }
}

/// Type and device of a file system, if they are known.
type System = Option<(String, String)>;

fn look_at(path: &Path) -> Result<(Survey, System), StoreError> {
    let survey = survey(path)?;
    let real = fs::canonicalize(&survey.directory);
    let system = real.ok().and_then(|real| file_system_of(&real));
    Ok((survey, system))
}

/// The error of a start.
fn refused(error: StoreError) -> Error {
    Error::Cache(error.into())
}

fn verdict(disk: &DiskCache, survey: &Survey, system: System) -> Verdict {
    let (kind, device) = system.unwrap_or_else(|| ("unknown".to_owned(), "unknown".to_owned()));
    let is_new = survey.directory != disk.path;
    let text = format!(
        "{}{} is on {kind} of {device} and takes writes; {} MiB of {} are free, for a size of {} \
         MiB; {}",
        disk.path.display(),
        if is_new { " (to be made)" } else { "" },
        survey.free >> 20,
        survey.total >> 20,
        disk.size >> 20,
        if survey.has_unnamed {
            "O_TMPFILE works"
        } else {
            "no O_TMPFILE: files get a name at once"
        }
    );
    let remedy = if is_remote(&kind) {
        "it is another process or host: use a disk of this one"
    } else if disk.size > survey.total {
        "the file system is smaller than cache.disk.size: lower that"
    } else if is_new && disk.size > survey.free {
        "less is free than cache.disk.size: lower that, or free some"
    } else if kind == "tmpfs" || kind == "ramfs" {
        "it is memory: use a disk"
    } else if kind == "overlay" {
        "it ends with the container: mount a volume there"
    } else {
        return Verdict::Good(text);
    };
    Verdict::Fair(format!("{text}: {remedy}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn an_answer_comes_with_what_to_do() {
        for (status, is_good, part) in [
            (200, true, "answers 200"),
            (307, true, "answers 307"),
            (404, true, "no object"),
            (403, false, "credentials"),
            (500, false, "log"),
        ] {
            let (good, text) = graded(answered("http://a.test", Ok(status)));
            assert_eq!(good, is_good, "{text}");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_disk_that_does_not_fit_comes_with_what_to_do() {
        let gib = 1 << 30;
        let rows = [
            ("ext4", 10 * gib, true, ""),
            ("xfs", 50 * gib, false, "lower that, or free some"),
            ("xfs", 500 * gib, false, "smaller than cache.disk.size"),
            ("nfs4", gib, false, "another process or host"),
            ("tmpfs", gib, false, "memory"),
            ("overlay", gib, false, "volume"),
        ];
        for (kind, size, is_good, part) in rows {
            let disk = DiskCache {
                path: PathBuf::from("/a/cache"),
                size,
                slice: 1 << 20,
            };
            let survey = Survey {
                directory: PathBuf::from("/a"),
                free: 20 * gib,
                total: 100 * gib,
                has_unnamed: true,
            };
            let system = Some((kind.to_owned(), "/dev/sda1".to_owned()));
            let (good, text) = graded(verdict(&disk, &survey, system));
            assert_eq!(good, is_good, "{text}");
            assert!(text.contains(part), "{text}");
            assert!(text.contains(&format!("on {kind} of /dev/sda1")), "{text}");
        }
    }

    fn graded(verdict: Verdict) -> (bool, String) {
        match verdict {
            Verdict::Good(text) => (true, text),
            Verdict::Fair(text) => (false, text),
            Verdict::Bad(error) => panic!("{error}"),
        }
    }
}
