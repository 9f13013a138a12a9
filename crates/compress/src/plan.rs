//! What is to be made, found by holding each file against its variants.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_http::Coding;

use crate::kinds;
use crate::summary::Summary;

/// A variant to be made.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The original, relative to the root.
    pub(crate) path: Arc<Path>,
    pub(crate) coding: Coding,
    /// Bytes of the original.
    pub(crate) len: u64,
    /// Whether there is a variant, which the new one replaces.
    pub(crate) replaces: bool,
}

/// What was found out about the tree, or a part of it.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<Job>,
    /// What needs no work.
    pub(crate) summary: Summary,
}

impl Plan {
    /// Both together.
    pub(crate) fn plus(mut self, other: Self) -> Self {
        // The longer list stays where it is.
        let (mut long, mut short) = (self.jobs, other.jobs);
        if long.len() < short.len() {
            std::mem::swap(&mut long, &mut short);
        }
        long.append(&mut short);
        self.jobs = long;
        self.summary = self.summary.plus(&other.summary);
        self
    }
}

/// What stands in the place of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    Stale,
    Fresh,
}

impl State {
    /// The state of the variant at `variant`, for an original with `metadata`.
    pub(crate) fn of(variant: &Path, original: &Metadata) -> io::Result<Self> {
        let found = match fs::symlink_metadata(variant) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing),
            Err(error) => return Err(error),
        };
        if !found.is_file() {
            return Err(io::Error::other("what is in its place is no regular file"));
        }
        let fresh = found.modified()? >= original.modified()?;
        Ok(if fresh { Self::Fresh } else { Self::Stale })
    }
}

/// The path of a variant.
pub(crate) fn variant(path: &Path, coding: Coding) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(coding.extension());
    PathBuf::from(name)
}

/// Whether a file of that name may have variants; counts it if not.
pub(crate) fn is_wanted(path: &Path, summary: &mut Summary) -> bool {
    let skipped = &mut summary.skipped;
    match () {
        () if kinds::is_variant(path) => skipped.variants += 1,
        () if !kinds::compresses(path) => skipped.kind += 1,
        () => return true,
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_variant_is_fresh_when_it_is_not_older() {
        let directory = tempfile::tempdir().unwrap();
        let [original, variant] = ["a", "a.br"].map(|name| directory.path().join(name));
        let made = File::create(&original).unwrap();
        let noon = SystemTime::UNIX_EPOCH + Duration::from_hours(400_000);
        made.set_modified(noon).unwrap();
        let metadata = made.metadata().unwrap();
        assert_eq!(State::of(&variant, &metadata).unwrap(), State::Missing);
        let variant_file = File::create(&variant).unwrap();
        let tick = Duration::from_nanos(1);
        let rows = [
            (noon, State::Fresh),
            (noon + tick, State::Fresh),
            (noon - tick, State::Stale),
        ];
        for (modified, expected) in rows {
            variant_file.set_modified(modified).unwrap();
            assert_eq!(State::of(&variant, &metadata).unwrap(), expected);
        }
        State::of(directory.path(), &metadata).unwrap_err();
    }

    #[test]
    fn the_extension_is_added_to_the_whole_name() {
        let path = variant(Path::new("a/b.min.js"), Coding::Zstd);
        assert_eq!(path, Path::new("a/b.min.js.zst"));
    }
}
