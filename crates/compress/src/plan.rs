//! Finds the variants to make, by comparing each file with the variants it has.

use std::cmp::Ordering;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tidegate_http::Coding;

use crate::compare::holds;
use crate::job::{Job, variant};
use crate::kinds;
use crate::observer::Observer;
use crate::original_reader::OriginalReader;
use crate::root::Root;
use crate::summary::Summary;

/// The plan for a tree, or for a part of it.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<Job>,
    /// Counts of the files that need no work.
    pub(crate) summary: Summary,
}

impl Plan {
    /// The sum of both plans.
    pub(crate) fn plus(mut self, other: Self) -> Self {
        // Append to the longer list, which is not moved then.
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

/// The state of a variant's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    Stale,
    Fresh,
    /// A symbolic link. It is never replaced or written through: somebody made it on purpose.
    Linked {
        /// Whether it leads to a fresh variant beneath the root.
        fresh: bool,
    },
}

/// A file that may have variants.
pub(crate) struct Original<'a> {
    pub(crate) root: &'a Root,
    /// Relative to the root.
    pub(crate) path: &'a Path,
    pub(crate) metadata: &'a Metadata,
    pub(crate) observer: &'a dyn Observer,
}

impl Original<'_> {
    /// The state of its variant.
    pub(crate) fn state(&self, coding: Coding) -> io::Result<State> {
        let name = variant(self.path, coding);
        let found = match fs::symlink_metadata(self.root.real(&name)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
            Err(error) => return Err(error),
        };
        if found.is_symlink() {
            let fresh = self.link_is_fresh(&name, coding).unwrap_or(false);
            return Ok(State::Linked { fresh });
        }
        if !found.is_file() {
            return Err(io::Error::other("what is in its place is no regular file"));
        }
        let fresh = self.is_fresh(&name, coding, &found)?;
        Ok(if fresh { State::Fresh } else { State::Stale })
    }

    fn link_is_fresh(&self, name: &Path, coding: Coding) -> io::Result<bool> {
        let found = self.root.file(name)?.metadata()?;
        Ok(found.is_file() && self.is_fresh(name, coding, &found)?)
    }

    /// Whether the variant holds the current content of the original. A variant made here has
    /// exactly the time of its original. A newer one was made by another program, or its original
    /// was replaced by an older version; only its content shows which.
    fn is_fresh(&self, name: &Path, coding: Coding, variant: &Metadata) -> io::Result<bool> {
        match variant.modified()?.cmp(&self.metadata.modified()?) {
            Ordering::Less => Ok(false),
            Ordering::Equal if time_tells(self.metadata) => Ok(true),
            // A variant that cannot be compared is made again, which reports any error of the
            // original.
            _ => Ok(self.is_held_by(name, coding).unwrap_or(false)),
        }
    }

    fn is_held_by(&self, name: &Path, coding: Coding) -> io::Result<bool> {
        let reader = OriginalReader {
            file: self.root.file(self.path)?,
            cost: 0,
            observer: self.observer,
        };
        holds(coding, self.root.file(name)?, reader)
    }
}

/// Whether the time of a file identifies its content. A time in whole seconds may not: tar and
/// reproducible builds set such times whatever the content, and some file systems store no others.
fn time_tells(file: &Metadata) -> bool {
    file.mtime_nsec() != 0
}

/// Whether a file of this name gets variants; counts it as skipped if not.
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
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::encode::encode;
    use crate::error::FileError;
    use crate::options::Level;

    const TEXT: &[u8] = b"a file";

    struct Silent;

    impl Observer for Silent {
        fn planned(&self, _: u64) {}
        fn advanced(&self, _: u64) {}
        fn written(&self, _: &Path, _: u64, _: u64) {}
        fn failed(&self, _: &FileError) {}
        fn is_stopping(&self) -> bool {
            false
        }
    }

    /// The state of `a.gz` beside `a`.
    fn state(root: &Path) -> io::Result<State> {
        let root = Root::open(root).unwrap();
        let metadata = root.real("a".as_ref()).metadata().unwrap();
        let original = Original {
            root: &root,
            path: "a".as_ref(),
            metadata: &metadata,
            observer: &Silent,
        };
        original.state(Coding::Gzip)
    }

    fn write(path: &Path, content: &[u8], modified: SystemTime) {
        fs::write(path, content).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(modified).unwrap();
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gzip = Vec::new();
        let len = content.len() as u64;
        encode(Coding::Gzip, Level::Fast, len, &mut &content[..], &mut gzip).unwrap();
        gzip
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_variant_is_fresh_by_its_time_and_where_that_does_not_tell_by_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let [original, variant] = ["a", "a.gz"].map(|name| directory.path().join(name));
        let (same, other) = (gzip(TEXT), gzip(b"b file"));
        let tick = Duration::from_nanos(1);
        let noon = at(1_000_000_000) + tick;
        write(&original, TEXT, noon);
        assert_eq!(state(directory.path()).unwrap(), State::Missing);
        #[rustfmt::skip] // a row a line
        let rows: [(SystemTime, SystemTime, &[u8], State); 12] = [
            (noon, noon, &other, State::Fresh),
            (noon, noon - tick, &same, State::Stale),
            (noon, noon + tick, &same, State::Fresh),
            (noon, noon + tick, &other, State::Stale),
            (noon, noon + tick, b"no gzip", State::Stale),
            (at(0), at(0), &same, State::Fresh),
            (at(0), at(0), &other, State::Stale),
            (at(1), at(1), &same, State::Fresh),
            (at(1), at(1), &other, State::Stale),
            (at(1), at(0), &same, State::Stale),
            (at(1_000_000_000), at(1_000_000_000), &same, State::Fresh),
            (at(1_000_000_000), at(1_000_000_000), &other, State::Stale),
        ];
        for (number, (modified, time, content, expected)) in rows.into_iter().enumerate() {
            write(&original, TEXT, modified);
            write(&variant, content, time);
            assert_eq!(state(directory.path()).unwrap(), expected, "row {number}");
        }
    }

    #[test]
    fn a_link_is_fresh_where_it_leads_to_a_fresh_one_beneath() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let noon = at(1_000_000_000);
        write(&root.join("a"), TEXT, noon);
        for (path, time) in [("root/fresh", noon), ("root/old", at(5)), ("outside", noon)] {
            write(&directory.path().join(path), &gzip(TEXT), time);
        }
        for (target, fresh) in [
            ("fresh", true),
            ("old", false),
            ("../outside", false),
            ("nothing", false),
            ("a.gz", false),
            (".", false),
        ] {
            symlink(target, root.join("a.gz")).unwrap();
            assert_eq!(state(&root).unwrap(), State::Linked { fresh }, "{target}");
            fs::remove_file(root.join("a.gz")).unwrap();
        }
        fs::create_dir(root.join("a.gz")).unwrap();
        state(&root).unwrap_err();
    }
}
