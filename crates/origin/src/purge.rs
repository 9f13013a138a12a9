//! What was purged, and when. A purge does not look for objects: each object that is found later is
//! compared with the purges since it came. So a purge of a million objects costs as much as one of
//! one, and reaches those that are filled at that moment.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// Purges that are remembered. With more, everything before the last one is purged softly.
const PURGES_MAX: usize = 100_000;

/// The extensions of variants: a purge of a path reaches them.
const VARIANTS: [&[u8]; 3] = [b".br", b".zst", b".gz"];

/// What a purge concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purged {
    /// The object of this path, decoded, with all its queries and variants.
    Path(String),
    /// All objects whose paths begin with this, such as `/assets/`.
    Prefix(String),
    /// All objects with this tag (Surrogate-Key, Cache-Tag).
    Tag(String),
}

/// How a purge acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// The objects are stale: they are revalidated, and used while the origin fails if that was
    /// allowed.
    #[default]
    Soft,
    /// They are gone, and fetched again in whole.
    Hard,
}

/// All purges, also those of earlier processes.
pub(crate) struct Purges {
    rules: RwLock<Rules>,
    /// Counts them: cores look whether there is a new one.
    generation: AtomicU64,
    path: PathBuf,
    file: Mutex<Option<File>>,
}

#[derive(Debug, Default)]
struct Rules {
    paths: HashMap<Vec<u8>, Times>,
    tags: HashMap<String, Times>,
    prefixes: Vec<(Vec<u8>, Times)>,
}

/// When something was purged last, in milliseconds since 1970; 0: never.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    soft: u64,
    hard: u64,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    manner: Manner,
    what: Purged,
}

impl Purges {
    /// The purges that the file `path` remembers. Blocking.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let mut rules = Rules::default();
        match fs::read(&path) {
            Ok(text) => {
                let lines = text.split(|byte| *byte == b'\n');
                // The last line may have been cut off by a crash.
                let lines = lines.filter_map(|line| serde_json::from_slice(line).ok());
                lines.for_each(|line| rules.add(line));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            rules: RwLock::new(rules),
            generation: AtomicU64::new(1),
            file: Mutex::new(append(&path).ok()),
            path,
        })
    }

    /// The number of purges so far, and one.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Has cores look again at what they found.
    pub(crate) fn count(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Purges `what` as of `now`. It holds from here on, and after a restart if the file could be
    /// written. Blocking.
    ///
    /// # Errors
    ///
    /// That of the file.
    pub(crate) fn purge(&self, what: Purged, manner: Manner, now: u64) -> io::Result<()> {
        let line = Line {
            at: now,
            manner,
            what,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let is_full = {
            let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            rules.add(line);
            rules.len() > PURGES_MAX
        };
        if is_full {
            text = self.purge_everything(now)?;
        }
        self.count();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full || file.is_none() {
            let next = self.path.with_extension("next");
            if is_full {
                fs::write(&next, b"")?;
                fs::rename(&next, &self.path)?;
            }
            *file = Some(append(&self.path)?);
        }
        match file.as_mut() {
            Some(file) => file.write_all(&text).and_then(|()| file.sync_data()),
            None => Ok(()),
        }
    }

    fn purge_everything(&self, now: u64) -> io::Result<Vec<u8>> {
        let line = Line {
            at: now,
            manner: Manner::Soft,
            what: Purged::Prefix("/".into()),
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Rules::default();
        rules.add(line);
        Ok(text)
    }

    /// Whether an object was purged since it was asked for.
    pub(crate) fn verdict(&self, record: &Record) -> Option<Manner> {
        self.since(&record.path, &record.tags, record.asked)
    }

    /// Whether the object of `path` with `tags` was purged since `asked`, inclusive, in
    /// milliseconds since 1970.
    pub(crate) fn since(&self, path: &[u8], tags: &[String], asked: u64) -> Option<Manner> {
        let times = self.times(path, tags);
        if times.hard >= asked {
            Some(Manner::Hard)
        } else if times.soft >= asked {
            Some(Manner::Soft)
        } else {
            None
        }
    }

    /// When the object of `path` with `tags` was last purged hard: its slices from before are not
    /// used again, whatever the origin says of its version.
    pub(crate) fn epoch(&self, path: &[u8], tags: &[String]) -> u64 {
        self.times(path, tags).hard
    }

    fn times(&self, path: &[u8], tags: &[String]) -> Times {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        if rules.len() == 0 {
            return Times::default();
        }
        let original = VARIANTS.iter().find_map(|end| path.strip_suffix(*end));
        let by_path = [Some(path), original].into_iter().flatten();
        let by_path = by_path.filter_map(|path| rules.paths.get(path));
        let by_tag = tags.iter().filter_map(|tag| rules.tags.get(tag));
        let prefixes = rules.prefixes.iter();
        let by_prefix = prefixes.filter(|(prefix, _)| path.starts_with(prefix));
        let by_prefix = by_prefix.map(|(_, times)| times);
        by_path
            .chain(by_tag)
            .chain(by_prefix)
            .fold(Times::default(), |one, other| Times {
                soft: one.soft.max(other.soft),
                hard: one.hard.max(other.hard),
            })
    }
}

impl Rules {
    fn len(&self) -> usize {
        self.paths.len() + self.tags.len() + self.prefixes.len()
    }

    fn add(&mut self, Line { at, manner, what }: Line) {
        let times = match what {
            Purged::Path(path) => self.paths.entry(path.into_bytes()).or_default(),
            Purged::Tag(tag) => self.tags.entry(tag).or_default(),
            Purged::Prefix(prefix) => {
                let prefix = prefix.into_bytes();
                let known = self.prefixes.iter().position(|(one, _)| *one == prefix);
                let index = known.unwrap_or_else(|| {
                    self.prefixes.push((prefix, Times::default()));
                    self.prefixes.len() - 1
                });
                &mut self.prefixes[index].1
            }
        };
        match manner {
            Manner::Soft => times.soft = times.soft.max(at),
            Manner::Hard => times.hard = times.hard.max(at),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::HeaderMap;

    use super::*;
    use crate::freshness::Freshness;

    fn record(path: &str, tag: &str, asked: u64) -> Record {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(asked);
        let mut fields = HeaderMap::new();
        fields.insert("surrogate-key", tag.parse().unwrap());
        Record::new(
            (path.as_bytes(), 1),
            1,
            &fields,
            Freshness::default(),
            (time, time),
            0,
        )
    }

    #[test]
    fn what_came_before_a_purge_is_purged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("purges");
        let purges = Purges::open(path.clone()).unwrap();
        assert_eq!(purges.verdict(&record("/a/b", "t", 5)), None);
        let before = purges.generation();
        purges
            .purge(Purged::Path("/a/b".into()), Manner::Soft, 10)
            .unwrap();
        purges
            .purge(Purged::Prefix("/p/".into()), Manner::Hard, 20)
            .unwrap();
        purges
            .purge(Purged::Tag("t".into()), Manner::Soft, 30)
            .unwrap();
        assert_eq!(purges.generation(), before + 3);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"at\":1")
            .unwrap();
        // A restart knows them, too.
        for purges in [purges, Purges::open(path).unwrap()] {
            let table = [
                ("/a/b", "", 10, Some(Manner::Soft)),
                ("/a/b.br", "", 9, Some(Manner::Soft)),
                ("/a/b", "", 11, None),
                ("/a/bc", "", 5, None),
                ("/p/x", "", 20, Some(Manner::Hard)),
                ("/p/x", "", 21, None),
                ("/p", "", 5, None),
                ("/x", "t", 25, Some(Manner::Soft)),
                ("/p/x", "t", 15, Some(Manner::Hard)),
                ("/x", "tt", 25, None),
            ];
            for (path, tag, asked, expected) in table {
                let verdict = purges.verdict(&record(path, tag, asked));
                assert_eq!(verdict, expected, "{path} {tag} {asked}");
            }
            assert_eq!(purges.epoch(b"/p/x", &[]), 20);
        }
    }
}
